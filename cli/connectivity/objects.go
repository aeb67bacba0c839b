// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// Names of what is made.
const (
	namespace  = "weft-test"
	namespace2 = "weft-test-other"
	ownLabel   = "weftmesh.io/connectivity-test"
	roleLabel  = "role"
)

func namespaceObject(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{ownLabel: "true"}}}
}

// image is that of the agent, which has this command: no other is needed.
type image struct {
	name string
	pull corev1.PullPolicy
}

// podObject fits the restricted Pod Security Standard.
func podObject(p *Pod, img image) *corev1.Pod {
	yes, no, nobody, second := true, false, int64(65534), int64(1)
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: map[string]string{ownLabel: "true", roleLabel: p.Role}},
		Spec: corev1.PodSpec{
			NodeSelector:                  map[string]string{corev1.LabelHostname: p.hostname},
			Tolerations:                   []corev1.Toleration{{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists}},
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			TerminationGracePeriodSeconds: &second,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &nobody,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: container, Image: img.name, ImagePullPolicy: img.pull,
				Command: []string{"weft", "connectivity", "serve"},
				Env: []corev1.EnvVar{{Name: "POD_NAMESPACE", ValueFrom: field("metadata.namespace")},
					{Name: "POD_NAME", ValueFrom: field("metadata.name")}},
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 2,
					ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(portTCP)}}},
			}},
		},
	}
}

// container of the pods.
const container = "weft"

// serviceObject leads to the servers; families nil is as many as the cluster has.
func serviceObject(name string, families []corev1.IPFamily, headless bool) *corev1.Service {
	policy := corev1.IPFamilyPolicyPreferDualStack
	if families != nil {
		policy = corev1.IPFamilyPolicySingleStack
	}
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{ownLabel: "true"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{roleLabel: roleServer}, IPFamilyPolicy: &policy, IPFamilies: families,
			Ports: []corev1.ServicePort{
				{Name: "http", Protocol: corev1.ProtocolTCP, Port: servicePort, TargetPort: intstr.FromInt32(portTCP)},
				{Name: "udp", Protocol: corev1.ProtocolUDP, Port: servicePort, TargetPort: intstr.FromInt32(portUDP)},
			}},
	}
	if headless {
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}
	return s
}

// servicePort is another than those of the pods, so that an answer there proves
// that it was translated.
const servicePort = 80

func selectRole(role string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{roleLabel: role}}
}

// ingressPolicy isolates the servers and allows what the rules say.
func ingressPolicy(name string, rules ...networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{ownLabel: "true"}},
		Spec: networkingv1.NetworkPolicySpec{PodSelector: *selectRole(roleServer), Ingress: rules,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}},
	}
}

// egressPolicy isolates the client's way out.
func egressPolicy(name string, rules ...networkingv1.NetworkPolicyEgressRule) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{ownLabel: "true"}},
		Spec: networkingv1.NetworkPolicySpec{PodSelector: *selectRole(roleClient), Egress: rules,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}},
	}
}

// weftPolicy is a WeftNetworkPolicy of this specification.
func weftPolicy(name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion().String(), "kind": v1alpha1.KindNetworkPolicy,
		"metadata": map[string]any{"namespace": namespace, "name": name, "labels": map[string]any{ownLabel: "true"}},
		"spec":     spec,
	}}
}
