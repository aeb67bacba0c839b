// SPDX-License-Identifier: Apache-2.0

package source

import (
	"github.com/weftmesh/weft/pkg/k8s"
)

// Problem is an object with a fault.
type Problem struct {
	k8s.Fault
	Kept bool // what the object was when it was last right is in force
}

// String is the object, the field and what is wrong.
func (p Problem) String() string { return p.Error() }

// Effect is what the fault does to what the object says.
func (p Problem) Effect() string {
	if p.Kept {
		return "what it said last stays in force"
	}
	return "nothing of it is in force"
}

// problems are all there are now, and those that are new.
type problems struct{ all, fresh []Problem }
