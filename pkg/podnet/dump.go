// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpTries bounds how often a listing is begun anew.
const dumpTries = 20

// Dump lists what the kernel has. A listing during which something changed may lack
// entries and is begun anew; on a busy host that is common.
func Dump[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == dumpTries {
			return out, err
		}
	}
}
