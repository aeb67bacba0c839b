// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// L7Rules are rules about requests; one of the kinds may be set.
type L7Rules struct {
	// +optional
	HTTP []HTTPRule `json:"http,omitzero"`
	// +optional
	Kafka []KafkaRule `json:"kafka,omitzero"`
	// +optional
	DNS []FQDNSelector `json:"dns,omitzero"`
	// L7Proto names another protocol, which L7 is about.
	// +optional
	L7Proto string `json:"l7proto,omitempty"`
	// +optional
	L7 []map[string]string `json:"l7,omitzero"`
}

// HTTPRule matches HTTP requests; its patterns are regular expressions.
type HTTPRule struct {
	// +optional
	Path string `json:"path,omitempty"`
	// +optional
	Method string `json:"method,omitempty"`
	// +optional
	Host string `json:"host,omitempty"`
	// +optional
	Headers []string `json:"headers,omitempty"`
	// +optional
	HeaderMatches []HeaderMatch `json:"headerMatches,omitempty"`
}

// HeaderMatch matches a header, and says what to do if it does not match.
type HeaderMatch struct {
	// +optional
	// +kubebuilder:validation:Enum=LOG;ADD;DELETE;REPLACE
	Mismatch string `json:"mismatch,omitempty"`
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// +optional
	Secret *SecretRef `json:"secret,omitempty"`
	// +optional
	Value string `json:"value,omitempty"`
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
