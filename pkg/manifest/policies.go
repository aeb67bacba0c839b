// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/api/netpol"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/model"
)

// policies is one object: some kinds hold several policies in one.
type policies struct {
	key  Key
	list []model.Policy
}

func policyObject(v policies, source string) Object {
	for i := range v.list {
		v.list[i].Source = source
	}
	return Object{Key: v.key, Value: v.list}
}

func networkPolicy(in *networkingv1.NetworkPolicy) (policies, field.ErrorList) {
	return policy(&in.ObjectMeta, true, func() ([]model.Policy, error) {
		p, err := netpol.FromNetworkPolicy(in)
		return []model.Policy{p}, err
	})
}

func weftNetworkPolicy(in *v1alpha1.WeftNetworkPolicy) (policies, field.ErrorList) {
	return policy(&in.ObjectMeta, true, func() ([]model.Policy, error) {
		return v1alpha1.FromWeftNetworkPolicy(in)
	})
}

func weftClusterNetworkPolicy(in *v1alpha1.WeftClusterNetworkPolicy) (policies, field.ErrorList) {
	return policy(&in.ObjectMeta, false, func() ([]model.Policy, error) {
		return v1alpha1.FromWeftClusterNetworkPolicy(in)
	})
}

func policy(m *metav1.ObjectMeta, namespaced bool, conv func() ([]model.Policy, error)) (policies, field.ErrorList) {
	errs := convert.Meta(m, namespaced)
	list, err := conv()
	if err != nil {
		errs = append(errs, policyFaults(err)...)
	}
	return policies{key: Key{Namespace: m.Namespace, Name: m.Name}, list: list}, errs
}

// policyFaults takes apart what a policy's conversion says: a line for each
// fault, which begins with the field's path. The metadata has been checked
// already.
func policyFaults(err error) field.ErrorList {
	var errs field.ErrorList
	for line := range strings.SplitSeq(err.Error(), "\n") {
		path, message, ok := strings.Cut(line, ": ")
		if !ok {
			path, message = "", line
		}
		if strings.HasPrefix(path, "metadata.") {
			continue
		}
		errs = append(errs, &field.Error{Type: faultOfPolicy, Field: path, Detail: message})
	}
	return errs
}

// faultOfPolicy marks faults whose Detail is the whole message.
const faultOfPolicy field.ErrorType = "policy"
