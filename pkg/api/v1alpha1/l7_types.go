// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// L7Rules are rules about requests, of one kind.
//
// +kubebuilder:validation:XValidation:rule="!has(self.kafka)",message="kafka: not supported yet; remove it"
// +kubebuilder:validation:XValidation:rule="!has(self.dns)",message="dns: not supported yet; remove it"
// +kubebuilder:validation:XValidation:rule="!has(self.l7proto)",message="l7proto: not supported yet; remove it"
// +kubebuilder:validation:XValidation:rule="!has(self.l7)",message="l7: not supported yet; remove it"
// +kubebuilder:validation:XValidation:rule="has(self.http) != has(self.grpc) || has(self.kafka) || has(self.dns) || has(self.l7proto) || has(self.l7)",message="http, grpc: rules are of one of the kinds"
type L7Rules struct {
	// HTTP lists rules about HTTP requests, of which one must match; {} matches
	// every request.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	HTTP []HTTPRule `json:"http,omitzero"`
	// GRPC lists rules about gRPC calls, of which one must match; {} matches every
	// call. CiliumNetworkPolicy has no such field.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	GRPC []GRPCRule `json:"grpc,omitzero"`
	// Kafka lists rules about Kafka requests. Not supported yet.
	// +optional
	Kafka []KafkaRule `json:"kafka,omitzero"`
	// DNS lists names that may be asked for. Not supported yet.
	// +optional
	DNS []FQDNSelector `json:"dns,omitzero"`
	// L7Proto names another protocol, which L7 is about. Not supported yet.
	// +optional
	L7Proto string `json:"l7proto,omitempty"`
	// L7 lists rules about that protocol. Not supported yet.
	// +optional
	L7 []map[string]string `json:"l7,omitzero"`
}

// HTTPRule matches HTTP requests that have all that it asks for. Expressions are
// regular ones in RE2's syntax and must match the whole.
type HTTPRule struct {
	// Path is an expression for the path, normalised and without the query.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`
	// Method is an expression for the method, such as GET or P.+ for PUT, POST and PATCH.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Method string `json:"method,omitempty"`
	// Host is an expression for the host that is asked for, without the port.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Host string `json:"host,omitempty"`
	// Headers lists headers that must be there: a name, or name, colon and the
	// value that it must have.
	// +optional
	// +kubebuilder:validation:MaxItems=50
	Headers []string `json:"headers,omitempty"`
	// HeaderMatches lists headers with values, and what to do about a request
	// that has others.
	// +optional
	// +kubebuilder:validation:MaxItems=50
	HeaderMatches []HeaderMatch `json:"headerMatches,omitempty"`
}

// HeaderMatch matches a header, and says what to do if it does not match.
type HeaderMatch struct {
	// Mismatch is what becomes of a request that has not the value: without it the
	// rule does not match; LOG lets it pass and records it, ADD adds the value,
	// REPLACE puts it in place of others, DELETE removes the header.
	// +optional
	// +kubebuilder:validation:Enum=LOG;ADD;DELETE;REPLACE
	Mismatch string `json:"mismatch,omitempty"`
	// Name is the header's, in any case.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`
	// Secret holds the value. Not supported yet.
	// +optional
	Secret *HeaderSecret `json:"secret,omitempty"`
	// Value is what the header must have; without it any will do.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value,omitempty"`
}

// HeaderSecret names the secret that holds a header's value. There may be too many
// of them for a rule of the schema to look at; so that none is taken, it has no room
// for the name that it needs.
//
// +kubebuilder:validation:MaxProperties=0
type HeaderSecret struct {
	// +optional
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// GRPCRule matches gRPC calls that have all that it asks for.
type GRPCRule struct {
	// Service is the service's name with its package, such as
	// helloworld.Greeter; without it every service is meant.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Service string `json:"service,omitempty"`
	// Method is the method's name; without it every method is meant.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Method string `json:"method,omitempty"`
}

// KafkaRule matches Kafka requests.
type KafkaRule struct {
	// +optional
	// +kubebuilder:validation:Enum=produce;consume
	Role string `json:"role,omitempty"`
	// +optional
	APIKey string `json:"apiKey,omitempty"`
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// +optional
	ClientID string `json:"clientID,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Topic string `json:"topic,omitempty"`
}

// TLSContext names the certificates of a connection.
type TLSContext struct {
	Secret SecretRef `json:"secret"`
	// +optional
	TrustedCA string `json:"trustedCA,omitempty"`
	// +optional
	Certificate string `json:"certificate,omitempty"`
	// +optional
	PrivateKey string `json:"privateKey,omitempty"`
}

// SecretRef names a secret.
type SecretRef struct {
	// +optional
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Listener names a listener of the proxy.
type Listener struct {
	EnvoyConfig EnvoyConfigRef `json:"envoyConfig"`
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Priority uint8 `json:"priority,omitempty"`
}

// EnvoyConfigRef names the object that defines a listener.
type EnvoyConfigRef struct {
	// +optional
	Kind string `json:"kind,omitempty"`
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
}
