// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestLint(t *testing.T) {
	for name, v := range map[string]string{"default": "", "odd": odd} {
		if out, errs, err := run(t, v, "lint", "--strict", chart); err != nil {
			t.Errorf("%s values: %v\n%s%s", name, err, out, errs)
		}
	}
}

func TestChartHasTheVersionOfTheProduct(t *testing.T) {
	version, err := os.ReadFile("../../VERSION")
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Version, AppVersion string }
	read(t, filepath.Join(chart, "Chart.yaml"), &got)
	if want := strings.TrimSpace(string(version)); got.Version != want || got.AppVersion != want {
		t.Errorf("Chart.yaml has version %s and appVersion %s, VERSION says %s", got.Version, got.AppVersion, want)
	}
}

// TestDefinitionsAreUpgradedAndKept: Helm upgrades templates, and not what is in
// crds; what has the annotation it does not delete.
func TestDefinitionsAreUpgradedAndKept(t *testing.T) {
	if _, err := os.Stat(filepath.Join(chart, "crds")); !os.IsNotExist(err) {
		t.Error("the chart has a folder crds, which Helm does not upgrade")
	}
	files, err := filepath.Glob(filepath.Join(chart, "crd/*.yaml"))
	if err != nil || len(files) != 5 {
		t.Fatalf("definitions: %v, %v", files, err)
	}
	got := make(map[string]*apiextensionsv1.CustomResourceDefinition)
	for _, crd := range all[*apiextensionsv1.CustomResourceDefinition](render(t, "")) {
		if crd.Annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("%s would be deleted with the release", crd.Name)
		}
		got[crd.Name] = crd
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		want := decode(t, string(text))[0].(*apiextensionsv1.CustomResourceDefinition)
		if crd := got[want.Name]; crd == nil || !reflect.DeepEqual(crd.Spec, want.Spec) {
			t.Errorf("%s is not in the chart as it is in %s", want.Name, f)
		}
	}
	if len(got) != len(files) {
		t.Errorf("%d definitions are rendered, of %d", len(got), len(files))
	}
}

// TestRights: no wildcard, nothing that gives more rights, no secrets.
func TestRights(t *testing.T) {
	objects := render(t, "")
	rules := make(map[string][]rbacv1.PolicyRule)
	for _, r := range all[*rbacv1.ClusterRole](objects) {
		rules["ClusterRole "+r.Name] = r.Rules
	}
	for _, r := range all[*rbacv1.Role](objects) {
		rules["Role "+r.Name] = r.Rules
	}
	if len(rules) != 5 {
		t.Errorf("%d roles: have a look at the new one, and count it here", len(rules))
	}
	for name, list := range rules {
		for _, r := range list {
			if len(r.NonResourceURLs) > 0 || slices.Contains(slices.Concat(r.APIGroups, r.Resources, r.Verbs, r.ResourceNames), "*") {
				t.Errorf("%s: %v is too much", name, r)
			}
			for _, no := range []string{"secrets", "serviceaccounts/token", "pods/exec", "nodes/proxy", "clusterroles", "clusterrolebindings",
				"escalate", "bind", "impersonate"} {
				if slices.Contains(slices.Concat(r.Resources, r.Verbs), no) {
					t.Errorf("%s: %v: it needs no %s", name, r, no)
				}
			}
		}
	}
	for _, r := range rules["ClusterRole weft-agent"] {
		reads := !slices.ContainsFunc(r.Verbs, func(v string) bool { return !slices.Contains([]string{"get", "list", "watch"}, v) })
		if !reads && !slices.Equal(r.Resources, []string{"weftendpointslices"}) && !slices.Equal(r.Resources, []string{"weftnodes/status"}) {
			t.Errorf("an agent writes its endpoints and its status, and not %v", r.Resources)
		}
	}
}

// TestOperatorHasTheRightsThatItIsTestedWith, and no others.
func TestOperatorHasTheRightsThatItIsTestedWith(t *testing.T) {
	tested, err := os.ReadFile("../../tests/operator/testdata/rights.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want, got := decode(t, string(tested)), render(t, "")
	if w, g := named[*rbacv1.ClusterRole](t, want, "weft-operator").Rules, named[*rbacv1.ClusterRole](t, got, "weft-operator").Rules; !reflect.DeepEqual(w, g) {
		t.Errorf("in the cluster the chart gives %v, tested is %v", g, w)
	}
	if w, g := named[*rbacv1.Role](t, want, "weft-operator").Rules, named[*rbacv1.Role](t, got, "weft-operator").Rules; !reflect.DeepEqual(w, g) {
		t.Errorf("in its namespace the chart gives %v, tested is %v", g, w)
	}
}

// pods gives each pod that the chart leads to, by the name of its workload.
func pods(t *testing.T, objects []runtime.Object) map[string]corev1.PodSpec {
	t.Helper()
	cleanup := named[*corev1.ConfigMap](t, objects, "weft-cleanup").Data["pod.yaml"]
	return map[string]corev1.PodSpec{
		"weft-agent":     named[*appsv1.DaemonSet](t, objects, "weft-agent").Spec.Template.Spec,
		"weft-operator":  named[*appsv1.Deployment](t, objects, "weft-operator").Spec.Template.Spec,
		"weft-uninstall": named[*batchv1.Job](t, objects, "weft-uninstall").Spec.Template.Spec,
		"weft-cleanup":   decode(t, cleanup)[0].(*corev1.Pod).Spec,
	}
}

func TestPods(t *testing.T) {
	for name, v := range map[string]string{"default": "", "odd": odd} {
		for workload, pod := range pods(t, render(t, v)) {
			onNode := workload == "weft-agent" || workload == "weft-cleanup"
			c := pod.Containers[0]
			s := c.SecurityContext
			if !pod.HostNetwork || pod.HostPID || pod.HostIPC {
				t.Errorf("%s, %s values: it needs the host's network, before there is another, and no more", workload, name)
			}
			if privileged := s.Privileged != nil && *s.Privileged; privileged != onNode {
				t.Errorf("%s, %s values: privileged is %v", workload, name, privileged)
			}
			if !*s.ReadOnlyRootFilesystem {
				t.Errorf("%s, %s values: its root can be written", workload, name)
			}
			if !onNode && (!*pod.SecurityContext.RunAsNonRoot || *s.AllowPrivilegeEscalation || !reflect.DeepEqual(s.Capabilities.Drop, []corev1.Capability{"ALL"})) {
				t.Errorf("%s, %s values: it may more than it needs", workload, name)
			}
			everywhere := slices.Contains(pod.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists})
			if wanted := workload != "weft-operator"; everywhere != wanted {
				t.Errorf("%s, %s values: tolerations %v", workload, name, pod.Tolerations)
			}
			image := "ghcr.io/weftmesh/"
			if v == odd {
				image = "registry.example:5000/mesh/"
			}
			if !strings.HasPrefix(c.Image, image) || (v == odd) != strings.HasSuffix(c.Image, ":v9.9.9-rc.1") || (v == odd) != (len(pod.ImagePullSecrets) == 2) {
				t.Errorf("%s, %s values: image %s, secrets %v", workload, name, c.Image, pod.ImagePullSecrets)
			}
			server := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "KUBERNETES_SERVICE_HOST" && e.Value == "2001:db8::1" })
			if wanted := v == odd && workload != "weft-cleanup"; server != wanted {
				t.Errorf("%s, %s values: environment %v", workload, name, c.Env)
			}
		}
	}
}

// TestEnvoy: two fit on a node, it may no more than it needs, and it goes with its value.
func TestEnvoy(t *testing.T) {
	const odder = "{image: {registry: mesh.example, tag: v2, pullPolicy: Always, pullSecrets: [one]}, envoy: {image: 'envoy.example/envoy@sha256:" +
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', resources: {limits: {memory: 2Gi}}}}"
	for name, v := range map[string]string{"default": "", "odd": odder} {
		d := named[*appsv1.DaemonSet](t, render(t, v), "weft-envoy")
		if u := d.Spec.UpdateStrategy.RollingUpdate; u.MaxSurge.String() != "10%" || u.MaxUnavailable.String() != "0" {
			t.Errorf("%s values: it is replaced so: %+v", name, u)
		}
		pod := d.Spec.Template.Spec
		if !pod.HostNetwork || pod.HostPID || pod.HostIPC || *pod.AutomountServiceAccountToken || pod.PriorityClassName != "system-node-critical" ||
			!slices.Contains(pod.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists}) {
			t.Errorf("%s values: pod %+v", name, pod)
		}
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			s, added := c.SecurityContext, []corev1.Capability{"NET_ADMIN"}
			if c.Name == "install" {
				added = nil
			}
			if s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(c.Ports) > 0 ||
				!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(s.Capabilities.Add, added) {
				t.Errorf("%s values: %s may %+v, ports %v", name, c.Name, s, c.Ports)
			}
		}
		images := []string{pod.InitContainers[0].Image, pod.Containers[0].Image}
		want, policy := []string{"ghcr.io/weftmesh/weft-agent:v" + d.Labels["app.kubernetes.io/version"], "docker.io/envoyproxy/envoy:distroless-v1.40.0"}, corev1.PullIfNotPresent
		if v == odder {
			want, policy = []string{"mesh.example/weft-agent:v2", "envoy.example/envoy@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}, corev1.PullAlways
		}
		if !slices.Equal(images, want) || pod.Containers[0].ImagePullPolicy != policy || (len(pod.ImagePullSecrets) == 1) != (v == odder) {
			t.Errorf("%s values: images %v, want %v; secrets %v", name, images, want, pod.ImagePullSecrets)
		}
	}
	for _, d := range all[*appsv1.DaemonSet](render(t, "envoy: {enabled: false}")) {
		if d.Name != "weft-agent" {
			t.Errorf("%s is there without a proxy", d.Name)
		}
	}
}

// TestOperatorIsTolerantOfNodesWithoutNetwork: else nothing would ever start.
func TestOperatorIsTolerantOfNodesWithoutNetwork(t *testing.T) {
	pod := pods(t, render(t, ""))["weft-operator"]
	for _, key := range []string{"weftmesh.io/agent-not-ready", "node.kubernetes.io/not-ready", "node.kubernetes.io/network-unavailable"} {
		taint := &corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule}
		if !slices.ContainsFunc(pod.Tolerations, func(t corev1.Toleration) bool {
			return t.Key == taint.Key && t.Operator == corev1.TolerationOpExists && (t.Effect == "" || t.Effect == taint.Effect)
		}) {
			t.Errorf("%s keeps it away", key)
		}
	}
	if n := len(all[*policyv1.PodDisruptionBudget](render(t, ""))); n != 1 {
		t.Errorf("%d budgets for two operators", n)
	}
	if n := len(all[*policyv1.PodDisruptionBudget](render(t, odd))); n != 0 {
		t.Error("a budget for a single operator, whose node could not be drained")
	}
}

// TestOperatorsMayShareANode: all start where there is one node, and none takes what
// the other one needs.
func TestOperatorsMayShareANode(t *testing.T) {
	for name, v := range map[string]string{"default": "", "odd": odd} {
		pod := pods(t, render(t, v))["weft-operator"]
		if a := pod.Affinity.PodAntiAffinity; len(a.RequiredDuringSchedulingIgnoredDuringExecution) > 0 ||
			len(a.PreferredDuringSchedulingIgnoredDuringExecution) != 1 {
			t.Errorf("%s values: affinity %+v", name, a)
		}
		c := pod.Containers[0]
		const socket = "healthSocket: /run/weft-operator/health.sock\n" // where weft-operator health asks
		if config := named[*corev1.ConfigMap](t, render(t, v), "weft-config").Data["config.yaml"]; !strings.Contains(config, socket) ||
			!slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/run/weft-operator" }) {
			t.Errorf("%s values: the operator has no socket for its probes", name)
		}
		if len(c.Ports) > 0 {
			t.Errorf("%s values: ports %+v, which two cannot have on one node", name, c.Ports)
		}
		for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if p.Exec == nil || p.Exec.Command[0] != "/usr/bin/weft-operator" || p.Exec.Command[1] != "health" {
				t.Errorf("%s values: the probe %+v may ask the other one", name, p)
			}
		}
	}
}

// TestMetrics: where only the node itself reaches them nobody is told of them; else
// Prometheus finds them by annotations, those of agents also by the port's name.
func TestMetrics(t *testing.T) {
	for _, c := range []struct{ address, probed, port string }{
		{"127.0.0.1:9465", "127.0.0.1", ""},
		{"[::1]:9000", "::1", ""},
		{":9465", "127.0.0.1", "9465"},
		{"0.0.0.0:1", "127.0.0.1", "1"},
		{"[::]:65535", "127.0.0.1", "65535"},
		{"[2001:db8::7]:9998", "2001:db8::7", "9998"},
	} {
		objects := render(t, fmt.Sprintf("{agent: {metricsAddress: %q}, operator: {metricsAddress: %q}}", c.address, c.address))
		agent := named[*appsv1.DaemonSet](t, objects, "weft-agent").Spec.Template
		for name, template := range map[string]corev1.PodTemplateSpec{"weft-agent": agent,
			"weft-operator": named[*appsv1.Deployment](t, objects, "weft-operator").Spec.Template} {
			a := template.Annotations
			if a["prometheus.io/port"] != c.port || (a["prometheus.io/scrape"] == "true") != (c.port != "") || len(a) != 1 && c.port == "" {
				t.Errorf("%s: %s has annotations %v", c.address, name, a)
			}
		}
		ports := agent.Spec.Containers[0].Ports
		if (len(ports) == 1) != (c.port != "") || len(ports) == 1 && (ports[0].Name != "metrics" || fmt.Sprint(ports[0].ContainerPort) != c.port) {
			t.Errorf("%s: the agent has ports %+v", c.address, ports)
		}
		for _, p := range []*corev1.Probe{agent.Spec.Containers[0].StartupProbe, agent.Spec.Containers[0].ReadinessProbe} {
			if g := p.HTTPGet; g.Host != c.probed || !strings.HasSuffix(c.address, ":"+g.Port.String()) {
				t.Errorf("%s: the agent is probed at %+v", c.address, g)
			}
		}
	}
}

// TestAgentsAreReplacedOnlyIfNeeded: the same values give the same pod; others of the
// configuration another.
func TestAgentsAreReplacedOnlyIfNeeded(t *testing.T) {
	template := func(values string) corev1.PodTemplateSpec {
		return named[*appsv1.DaemonSet](t, render(t, values), "weft-agent").Spec.Template
	}
	if !reflect.DeepEqual(template(""), template("operator: {replicas: 3, metricsAddress: ':1'}")) {
		t.Error("a change of the operator replaces agents")
	}
	if !reflect.DeepEqual(template(""), template("logLevel: debug")) {
		t.Error("agents are replaced for what they read again while they run")
	}
	if !reflect.DeepEqual(template(""), template("envoy: {image: other, resources: {limits: {memory: 1Gi}}}")) {
		t.Error("agents are replaced for what they do not read")
	}
	if reflect.DeepEqual(template(""), template("mtu: 1400")) {
		t.Error("a change of the configuration does not reach agents")
	}
}

// TestHooks: what only the hook needs is there only while it runs, and nothing else
// is a hook.
func TestHooks(t *testing.T) {
	hooks := 0
	for _, o := range render(t, "") {
		m, ok := o.(metav1.Object)
		if !ok {
			t.Fatalf("%T has no metadata", o)
		}
		hook := m.GetAnnotations()["helm.sh/hook"]
		wanted := ""
		if m.GetName() == "weft-uninstall" || m.GetName() == "weft-cleanup" {
			wanted = "pre-delete"
			hooks++
			if !strings.Contains(m.GetAnnotations()["helm.sh/hook-delete-policy"], "hook-succeeded") {
				t.Errorf("%T %s stays", o, m.GetName())
			}
		}
		if hook != wanted {
			t.Errorf("%T %s: hook %q, want %q", o, m.GetName(), hook, wanted)
		}
	}
	if hooks != 7 {
		t.Errorf("%d objects of the hook, want 7", hooks)
	}
}
