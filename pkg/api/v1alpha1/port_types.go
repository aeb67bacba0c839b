// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PortRule is a list of ports, and what is asked of connections to them.
//
// +kubebuilder:validation:XValidation:rule="!has(self.listener)",message="listener: not supported yet; remove it"
// +kubebuilder:validation:XValidation:rule="!has(self.terminatingTLS)",message="terminatingTLS: not supported yet; remove it"
// +kubebuilder:validation:XValidation:rule="!has(self.originatingTLS)",message="originatingTLS: not supported yet; remove it"
// +kubebuilder:validation:XValidation:rule="!(has(self.rules) && has(self.serverNames))",message="rules, serverNames: what is inside TLS cannot be seen; write an item of toPorts for each"
// +kubebuilder:validation:XValidation:rule="!has(self.audit) || has(self.rules) || has(self.serverNames)",message="audit: there are neither rules nor serverNames that it could be about; remove it"
type PortRule struct {
	// Ports lists ports; at least one.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=40
	Ports []PortProtocol `json:"ports,omitempty"`
	// TerminatingTLS ends TLS in the proxy. Not supported yet.
	// +optional
	TerminatingTLS *TLSContext `json:"terminatingTLS,omitempty"`
	// OriginatingTLS starts TLS in the proxy. Not supported yet.
	// +optional
	OriginatingTLS *TLSContext `json:"originatingTLS,omitempty"`
	// ServerNames lists names that clients may ask TLS servers for (SNI), with *
	// for one label, as in *.example.com. The ports must be TCP's.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=253
	ServerNames []string `json:"serverNames,omitzero"`
	// Listener names a listener of the proxy. Not supported yet.
	// +optional
	Listener *Listener `json:"listener,omitempty"`
	// Rules asks for more in the application's protocol: connections pass through
	// the proxy. The ports must be TCP's.
	// +optional
	Rules *L7Rules `json:"rules,omitempty"`
	// Audit lets pass what rules or serverNames do not allow, and reports it.
	// CiliumNetworkPolicy has no such field.
	// +optional
	Audit *bool `json:"audit,omitempty"`
}

// PortDenyRule is a list of ports.
type PortDenyRule struct {
	// Ports lists ports; at least one.
	// +optional
	// +kubebuilder:validation:MinItems=1
	Ports []PortProtocol `json:"ports,omitempty"`
}

// PortProtocol is a port, a range of ports or a named port.
type PortProtocol struct {
	// Port is a number, or the name of a container's port; 0 is every port.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^(|0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]|([0-9]+-)*[0-9]*[A-Za-z](-?[A-Za-z0-9])*)$`
	Port string `json:"port,omitempty"`
	// EndPort is the last port of a range that begins at Port.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	EndPort int32 `json:"endPort,omitempty"`
	// Protocol is ANY (TCP, UDP and SCTP) if it is not given.
	// +optional
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP;VRRP;IGMP;ANY
	Protocol string `json:"protocol,omitempty"`
}

// ICMPRule is a list of types of ICMP messages.
type ICMPRule struct {
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=40
	Fields []ICMPField `json:"fields,omitempty"`
}

// ICMPField is a type of ICMP messages, with any code.
type ICMPField struct {
	// Family is IPv4 (the default) or IPv6.
	// +optional
	// +kubebuilder:validation:Enum=IPv4;IPv6
	// +kubebuilder:default=IPv4
	Family string `json:"family,omitempty"`
	// Type is a number from 0 to 255 or a name such as EchoRequest.
	// +kubebuilder:validation:XIntOrString
	Type *intstr.IntOrString `json:"type"`
}

// FQDNSelector selects DNS names.
type FQDNSelector struct {
	// +optional
	MatchName string `json:"matchName,omitempty"`
	// +optional
	MatchPattern string `json:"matchPattern,omitempty"`
}

// Groups selects groups of a cloud provider.
type Groups struct {
	// +optional
	AWS *AWSGroup `json:"aws,omitempty"`
}

// AWSGroup selects groups of AWS.
type AWSGroup struct {
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// +optional
	Region string `json:"region,omitempty"`
	// +optional
	SecurityGroupsIDs []string `json:"securityGroupsIds,omitempty"`
	// +optional
	SecurityGroupsNames []string `json:"securityGroupsNames,omitempty"`
}

// ServiceRule selects services by name or by labels.
type ServiceRule struct {
	// +optional
	K8sService *K8sServiceName `json:"k8sService,omitempty"`
	// +optional
	K8sServiceSelector *K8sServiceSelector `json:"k8sServiceSelector,omitempty"`
}

// K8sServiceName names a service.
type K8sServiceName struct {
	// +optional
	ServiceName string `json:"serviceName,omitempty"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// K8sServiceSelector selects services by labels.
type K8sServiceSelector struct {
	Selector metav1.LabelSelector `json:"selector"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// Authentication asks for mutual authentication.
type Authentication struct {
	// +kubebuilder:validation:Enum=disabled;required;test-always-fail
	Mode string `json:"mode"`
}
