// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/api/netpol"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

// NetworkPolicy converts a policy of Kubernetes. Here and below, one object may be
// several policies, and none where something is wrong.
func NetworkPolicy(in *networkingv1.NetworkPolicy) ([]model.Policy, field.ErrorList) {
	return policy(&in.ObjectMeta, true, func() ([]model.Policy, error) {
		p, err := netpol.FromNetworkPolicy(in)
		return []model.Policy{p}, err
	})
}

// WeftNetworkPolicy converts a policy of a namespace.
func WeftNetworkPolicy(in *v1alpha1.WeftNetworkPolicy) ([]model.Policy, field.ErrorList) {
	return policy(&in.ObjectMeta, true, func() ([]model.Policy, error) {
		return v1alpha1.FromWeftNetworkPolicy(in)
	})
}

// WeftClusterNetworkPolicy converts a policy of the whole cluster.
func WeftClusterNetworkPolicy(in *v1alpha1.WeftClusterNetworkPolicy) ([]model.Policy, field.ErrorList) {
	return policy(&in.ObjectMeta, false, func() ([]model.Policy, error) {
		return v1alpha1.FromWeftClusterNetworkPolicy(in)
	})
}

func policy(m *metav1.ObjectMeta, namespaced bool, conv func() ([]model.Policy, error)) ([]model.Policy, field.ErrorList) {
	errs := Meta(m, namespaced)
	list, err := conv()
	if err != nil {
		errs = append(errs, policyFaults(err)...)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return list, nil
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

// Message is what a fault says, without its field.
func Message(e *field.Error) string {
	if e.Type == faultOfPolicy {
		return e.Detail
	}
	body := e.ErrorBody()
	return strings.ToLower(body[:1]) + body[1:]
}
