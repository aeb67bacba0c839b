// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

// IdentityFrom converts a WeftIdentity. Its labels may be in any order.
func IdentityFrom(obj *v1alpha1.WeftIdentity) (model.Identity, field.ErrorList) {
	id, errs := identityName(obj.Name)
	at := field.NewPath("securityLabels")
	if len(obj.SecurityLabels) == 0 {
		errs = append(errs, field.Required(at, "an identity stands for labels"))
	}
	labels := make([]model.Label, 0, len(obj.SecurityLabels))
	seen := make(map[string]bool, len(obj.SecurityLabels))
	for i, text := range obj.SecurityLabels {
		l, e := securityLabel(at.Index(i), text)
		errs = append(errs, e...)
		if seen[l.Key] && len(e) == 0 {
			errs = append(errs, field.Duplicate(at.Index(i), text))
		}
		seen[l.Key] = true
		labels = append(labels, l)
	}
	if len(errs) > 0 {
		return model.Identity{}, errs
	}
	return model.Identity{ID: id, Labels: model.NewLabels(labels...)}, nil
}

// identityName reads the number that is an identity's name.
func identityName(name string) (model.IdentityID, field.ErrorList) {
	n, err := strconv.ParseUint(name, 10, 32)
	if id := model.IdentityID(n); err == nil && id.IsCluster() && strconv.FormatUint(n, 10) == name {
		return id, nil
	}
	return 0, field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), name,
		fmt.Sprintf("must be the identity's number, from %d to %d", model.MinClusterIdentity, model.MinLocalIdentity-1))}
}

// securityLabel reads k8s:key=value. Labels of other sources are those of reserved
// identities and of prefixes, for which an object of the API cannot stand.
func securityLabel(at *field.Path, text string) (model.Label, field.ErrorList) {
	bad := func(why string) (model.Label, field.ErrorList) {
		return model.Label{}, field.ErrorList{field.Invalid(at, text, why)}
	}
	head, value, _ := strings.Cut(text, "=")
	source, key, ok := strings.Cut(head, ":")
	switch {
	case !ok || source != model.SourceK8s:
		return bad("must begin with " + model.SourceK8s + ":")
	case key == "":
		return bad("must have a key, as in " + model.SourceK8s + ":key=value")
	case strings.ContainsAny(text, " \t\r\n\x00"):
		return bad("must not hold spaces")
	}
	return model.Label{Source: source, Key: key, Value: value}, nil
}

// IdentityTo makes the object of an identity.
func IdentityTo(id model.Identity) *v1alpha1.WeftIdentity {
	out := &v1alpha1.WeftIdentity{
		ObjectMeta:     metav1.ObjectMeta{Name: IdentityName(id.ID)},
		SecurityLabels: id.Labels.Strings(),
	}
	if ns, ok := id.Labels.Get(model.SourceK8s, model.LabelNamespace); ok {
		out.Labels = map[string]string{v1alpha1.LabelIdentityNamespace: ns}
	}
	return out
}

// IdentityName is the name of an identity's object.
func IdentityName(id model.IdentityID) string { return strconv.FormatUint(uint64(id), 10) }
