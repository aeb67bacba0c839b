// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"errors"
	"fmt"
	"net/url"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/convert"
)

// Fault says what is wrong with an object: its kind and name, the field, what is
// wrong with it; of several faults the first one and how many there are.
type Fault struct {
	Kind      string
	Namespace string // empty for cluster-wide kinds
	Name      string
	Field     string // path of the field; empty: the object as a whole
	Message   string
	More      int // further faults
}

// NewFault makes one of what a conversion found, or none of nothing.
func NewFault(kind, namespace, name string, errs field.ErrorList) *Fault {
	if len(errs) == 0 {
		return nil
	}
	return &Fault{Kind: kind, Namespace: namespace, Name: name,
		Field: errs[0].Field, Message: convert.Message(errs[0]), More: len(errs) - 1}
}

// Object is what the fault is in: kind namespace/name.
func (f *Fault) Object() string {
	if f.Namespace == "" {
		return f.Kind + " " + f.Name
	}
	return f.Kind + " " + f.Namespace + "/" + f.Name
}

// Error implements error.
func (f *Fault) Error() string {
	return f.Object() + ": " + f.Short()
}

// Short is what is wrong, without the object's name.
func (f *Fault) Short() string {
	text := f.Message
	if f.Field != "" {
		text = f.Field + ": " + text
	}
	if f.More > 0 {
		text += fmt.Sprintf(" (and %d more)", f.More)
	}
	return text
}

// Short is an error of a request without the request's address, which is long and
// says nothing that the rest does not.
func Short(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}
