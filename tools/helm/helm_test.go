// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const (
	chart     = "../../daemonset/chart"
	binary    = "../../build/tools/helm"
	namespace = "weft-system"
)

// odd values, each of which differs from its default.
const odd = `
image: {registry: "registry.example:5000/mesh", tag: v9.9.9-rc.1, pullPolicy: Always, pullSecrets: [one, two]}
apiServer: {host: "2001:db8::1", port: 8443}
clusterName: eu.west-1
clusterCIDRs: ["10.0.0.0/8", "fd00:1::/48"]
mtu: 9000
shortcut: false
tunnel: {protocol: vxlan, port: 8472}
logLevel: debug
masquerade: {ipv4: false, ipv6: true, devices: [eth1]}
identityLabels: {include: ["app*"], exclude: [hash]}
conntrack: {entriesIPv4: 4000000, entriesIPv6: 2048}
flows: {bufferSize: 100}
cni: {binDir: /usr/libexec/cni, confDir: /var/lib/cni/net.d}
agent: {maxUnavailable: 3, metricsAddress: ":9999", resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}}
envoy: {enabled: false, image: "registry.example:5000/proxies/envoy:v1.40.1", resources: {requests: {cpu: 2, memory: 1Gi}, limits: {memory: 2Gi}}}
operator: {replicas: 1, metricsAddress: "[2001:db8::7]:9998", resources: {requests: {cpu: 20m, memory: 64M}, limits: {cpu: 2}}}
`

// run runs helm with values, in a home of its own.
func run(t *testing.T, values string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	home := t.TempDir()
	file := filepath.Join(home, "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append(args, "--values", file)...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG=/nonexistent")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v; make tools builds it", err)
	}
	return out.String(), errs.String(), err
}

// render gives the objects of the chart.
func render(t *testing.T, values string) []runtime.Object {
	t.Helper()
	out, errs, err := run(t, values, "template", "weft", chart, "--namespace", namespace)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, errs)
	}
	return decode(t, out)
}

// decode reads each document into the type of its kind, which must know every field.
func decode(t *testing.T, text string) (objects []runtime.Object) {
	t.Helper()
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), apiextensionsv1.AddToScheme(known)); err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	for _, doc := range strings.Split("\n"+text, "\n---\n") {
		var content map[string]any
		if err := yaml.Unmarshal([]byte(doc), &content); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if len(content) == 0 {
			continue
		}
		o, _, err := decoder.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Errorf("%s %s: %v", content["kind"], content["metadata"].(map[string]any)["name"], err)
			continue
		}
		objects = append(objects, o)
	}
	return objects
}

// all picks the objects of a type.
func all[T runtime.Object](objects []runtime.Object) (out []T) {
	for _, o := range objects {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// named picks the one object of a type that has a name.
func named[T interface {
	runtime.Object
	metav1.Object
}](t *testing.T, objects []runtime.Object, name string) T {
	t.Helper()
	for _, o := range all[T](objects) {
		if o.GetName() == name {
			return o
		}
	}
	var none T
	t.Fatalf("no %T %s", none, name)
	return none
}
