// SPDX-License-Identifier: Apache-2.0

package config

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		c, err := Parse("config.yaml", []byte(text), "node-1")
		if err != nil {
			t.Fatal(err)
		}
		if c.NodeName != "node-1" || !reflect.DeepEqual(c.ClusterCIDRs, c.PodCIDRs) {
			t.Errorf("got %+v", c)
		}
	}
}

func TestEverySettingIsRead(t *testing.T) {
	got, err := Parse("config.yaml", []byte(`
nodeName: a
clusterName: b
kubernetes: {enabled: false, kubeconfig: /k}
manifests: /m
stateDir: /s
runDir: /r
bpffs: /b
cgroup: /c
podCIDRs: [10.1.0.0/16]
clusterCIDRs: [10.0.0.0/8]
mtu: 9000
shortcut: false
tunnel: {protocol: vxlan, port: 8472}
logLevel: debug
metricsAddress: ""
identityLabels: {include: [app], exclude: []}
conntrack: {entriesIPv4: 2048, entriesIPv6: 4096, tcpTimeout: 1h, tcpClosingTimeout: 5s, otherTimeout: 2m, unansweredTimeout: 7s}
masquerade: {ipv4: false, ipv6: true, devices: [eth9], firstPort: 2000, lastPort: 3000}
envoy: {binary: /v}
flows: {bufferSize: 100, aliveInterval: 9s}
cni: {install: true, binDir: /o, confDir: /e}
operator: {metricsAddress: "", healthSocket: /h, identityGrace: 1h}
`), "host")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		NodeName: "a", ClusterName: "b", Kubernetes: Kubernetes{Kubeconfig: "/k"}, Manifests: "/m", StateDir: "/s", RunDir: "/r", BPFFS: "/b", Cgroup: "/c",
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		MTU:          9000, Tunnel: Tunnel{Protocol: TunnelVXLAN, Port: 8472}, LogLevel: Level(slog.LevelDebug),
		IdentityLabels: IdentityLabels{Include: []string{"app"}, Exclude: []string{}},
		Conntrack: Conntrack{EntriesIPv4: 2048, EntriesIPv6: 4096, TCPTimeout: Duration(time.Hour),
			TCPClosingTimeout: Duration(5 * time.Second), OtherTimeout: Duration(2 * time.Minute),
			UnansweredTimeout: Duration(7 * time.Second)},
		Masquerade: Masquerade{IPv6: true, Devices: []string{"eth9"}, FirstPort: 2000, LastPort: 3000},
		Envoy:      Envoy{Binary: "/v"},
		Flows:      Flows{BufferSize: 100, AliveInterval: Duration(9 * time.Second)},
		CNI:        CNI{Install: true, BinDir: "/o", ConfDir: "/e"},
		Operator:   Operator{HealthSocket: "/h", IdentityGrace: Duration(time.Hour)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	visit(reflect.TypeOf(want), "", nil, func(field string, _ reflect.StructField, index []int) {
		if field == "kubernetes.enabled" { // others depend on it: below
			return
		}
		def := reflect.ValueOf(Default("host")).FieldByIndex(index).Interface()
		if reflect.DeepEqual(def, reflect.ValueOf(got).FieldByIndex(index).Interface()) {
			t.Errorf("%s: the test leaves it at its default", field)
		}
	})
}

func TestTheFamilyOfThePodsHasRoomForMoreConnections(t *testing.T) {
	for _, c := range []struct {
		in     string
		v4, v6 uint32
	}{
		{"", 131072, 32768},
		{"podCIDRs: [10.1.0.0/16]", 131072, 32768},
		{"podCIDRs: [\"fd00::/64\", 10.1.0.0/16]", 131072, 32768},
		{"podCIDRs: [\"fd00::/64\"]", 32768, 131072},
		{"podCIDRs: [\"fd00::/64\"]\nconntrack: {entriesIPv6: 2000}", 32768, 2000},
	} {
		got, err := Parse("c.yaml", []byte(c.in), "host")
		if err != nil {
			t.Fatal(err)
		}
		if ct := got.Conntrack; ct.EntriesIPv4 != c.v4 || ct.EntriesIPv6 != c.v6 {
			t.Errorf("%q: room for %d and %d, want %d and %d", c.in, ct.EntriesIPv4, ct.EntriesIPv6, c.v4, c.v6)
		}
	}
}

func TestFaultsNameFileLineFieldAndRemedy(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"nodename: x", `c.yaml:1: nodename: unknown field; did you mean "nodeName"?`},
		{"\nmtu: big", `c.yaml:2: mtu: want a whole number from 0 to 65535, got the text "big"`},
		{"mtu: 100", "c.yaml:1: mtu: must be 0 or from 1280 to 65535, got 100"},
		{"tunnel: {protocol: geneve}", `c.yaml:1: tunnel.protocol: not a valid value "geneve": want none or vxlan`},
		{"tunnel:\n  port: 0", "c.yaml:2: tunnel.port: must be from 1 to 65535, got 0"},
		{"tunnel:\n  protocol: vxlan\n  port: 40000", "c.yaml:3: tunnel.port: 40000 is among the ports of masquerade.firstPort to masquerade.lastPort (32768 to 65535); choose"},
		{"logLevel: loud", `c.yaml:1: logLevel: not a valid value "loud": want debug, info, warn or error`},
		{"conntrack:\n  tcpTimeout: 60", `c.yaml:2: conntrack.tcpTimeout: not a valid value "60": want a time with its unit, such as 30s, 5m or 2h`},
		{"conntrack:\n  tcpTimeout: 1ms", "c.yaml:2: conntrack.tcpTimeout: must be whole seconds from 1s to 120h, got 1ms"},
		{"conntrack:\n  entriesIPv4: 1", "c.yaml:2: conntrack.entriesIPv4: must be from 1024 to 16777216, got 1"},
		{"podCIDRs: 10.0.0.0/8", `c.yaml:1: podCIDRs: want a list (items that begin with "- "), got the text "10.0.0.0/8"`},
		{"podCIDRs:\n- 10.0.0.1", `c.yaml:2: podCIDRs[0]: want an address range such as 10.0.0.0/8 or fd00::/64, got the text "10.0.0.1"`},
		{"podCIDRs:\n- 10.0.0.1/24", "c.yaml:2: podCIDRs[0]: 10.0.0.1/24 has bits set after its length; write 10.0.0.0/24"},
		{"podCIDRs: [10.0.0.0/24, 10.1.0.0/24]", "c.yaml:1: podCIDRs[1]: a second range of one family"},
		{"podCIDRs: [10.0.0.0/31]", "c.yaml:1: podCIDRs[0]: 10.0.0.0/31 is too small"},
		{"podCIDRs: [127.0.0.0/8]", "c.yaml:1: podCIDRs[0]: 127.0.0.0/8 is not a range for hosts"},
		{"podCIDRs: []", "c.yaml:1: podCIDRs: is empty"},
		{"clusterCIDRs: [10.0.0.0/8]", "c.yaml:1: clusterCIDRs: leaves out fd00:10:244::/64 of podCIDRs"},
		{"runDir: run", `c.yaml:1: runDir: "run" is not an absolute path; begin it with /`},
		{"runDir: /" + strings.Repeat("x", 100), "c.yaml:1: runDir: too long for a socket's path; use at most 96 bytes"},
		{"operator: {metricsAddress: localhost}", `c.yaml:1: operator.metricsAddress: "localhost" is not an address with a port`},
		{"operator: {identityGrace: 10ms}", `c.yaml:1: operator.identityGrace: must be whole seconds`},
		{"metricsAddress: localhost", `c.yaml:1: metricsAddress: "localhost" is not an address with a port`},
		{"clusterName: A_b", `c.yaml:1: clusterName: "A_b" is not a name`},
		{"identityLabels:\n  exclude:\n  - ok\n  - ^bad$", `c.yaml:4: identityLabels.exclude[1]: "^bad$" is not a pattern of label keys; write a key`},
		{"masquerade:\n  devices: [eth0/1]", `c.yaml:2: masquerade.devices[0]: "eth0/1" is not the name of a network device; ip link lists them`},
		{"masquerade:\n  firstPort: 80", "c.yaml:2: masquerade.firstPort: must be from 1024 to 65535, got 80"},
		{"masquerade:\n  firstPort: 5000\n  lastPort: 4999", "c.yaml:3: masquerade.lastPort: must be from 5000 to 65535, got 4999"},
		{"cni: {confDir: etc/cni/net.d}", `c.yaml:1: cni.confDir: "etc/cni/net.d" is not an absolute path; begin it with /`},
		{"flows: {bufferSize: 1}\nmtu: 1", "c.yaml:2: mtu: must be 0 or from 1280 to 65535, got 1\nc.yaml:1: flows.bufferSize: must be from 64 to 4194304, got 1"},
		{"mtu: 0\n---\nmtu: 0", "c.yaml:3: a second document"},
		{"a: [", "c.yaml:1: not valid YAML: "},
	} {
		_, err := Parse("c.yaml", []byte(c.in), "host")
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q:\ngot  %v\nwant %s", c.in, err, c.want)
		}
	}
	if _, err := Parse("c.yaml", nil, "My_Host"); err == nil || !strings.HasPrefix(err.Error(), `c.yaml: nodeName: "My_Host" is not a name`) {
		t.Errorf("a host name that is no node's name: %v", err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(path, []byte("nodeName: n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || c.NodeName != "n" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestReloadTakesOnlyWhatNeedsNoRestart(t *testing.T) {
	running := Default("a")
	read := Default("a")
	read.LogLevel = Level(slog.LevelDebug)
	read.MTU = 9000
	read.Conntrack.TCPTimeout = Duration(time.Hour)
	next, changed, waiting := Reload(running, read)
	want := running
	want.LogLevel = Level(slog.LevelDebug)
	if !reflect.DeepEqual(next, want) || !reflect.DeepEqual(changed, []string{"logLevel"}) ||
		!reflect.DeepEqual(waiting, []string{"mtu", "conntrack.tcpTimeout"}) {
		t.Errorf("got %+v, changed %v, waiting %v", next, changed, waiting)
	}
}

func TestInKubernetesPodRangesComeFromTheNode(t *testing.T) {
	c, err := Parse("c", []byte("kubernetes: {enabled: true}\nclusterCIDRs: [10.244.0.0/16]\n"), "n")
	if err != nil || c.PodCIDRs != nil || len(c.ClusterCIDRs) != 1 {
		t.Errorf("got %v, %v, %v", c.PodCIDRs, c.ClusterCIDRs, err)
	}
	for text, want := range map[string]string{
		"kubernetes: {enabled: true}\n": "clusterCIDRs: is missing",
		"kubernetes: {enabled: true}\nclusterCIDRs: [10.244.0.0/16]\npodCIDRs: [10.244.0.0/24]\n": "c:3: podCIDRs: in Kubernetes",
		"kubernetes: {kubeconfig: here}\n": "kubernetes.kubeconfig: ",
	} {
		if _, err := Parse("c", []byte(text), "n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestTheNodeIsNamedByItsPod(t *testing.T) {
	t.Setenv("NODE_NAME", "node-7")
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || c.NodeName != "node-7" {
		t.Errorf("got %q, %v", c.NodeName, err)
	}
}
