// SPDX-License-Identifier: Apache-2.0

//go:build l7

package speed

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/tests/sandbox"
)

// webPolicy is what is asked of the requests: of each protocol one rule of several
// matches, and not the first. Without a proxy all may come.
const webPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: server, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {name: client}}]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules:
        http:
        - {method: GET, path: /public/.*}
        - {method: GET|HEAD, path: "/items/[0-9]+"}
        - {method: POST, path: "/orders/[0-9]+", headers: [X-Tenant a]}
    - ports: [{port: "8081", protocol: TCP}]
      rules: {grpc: [{service: shop.Items}, {service: shop.Orders, method: Get}, {service: shop.Orders, method: Put}]}
    - ports: [{port: "8090", protocol: TCP}, {port: "8091", protocol: TCP}]
`

// Ports of the bare Envoy, from a protocol's.
const (
	toLogged   = 100 // with records of requests, as Weft has them
	toUnlogged = 200
)

// bareEnvoy starts the same Envoy as a plain reverse proxy with the same rules, which
// clients call by its own address: no kernel programs, no addresses kept, nothing that
// Weft does to requests but paths, which are normalised, or the rules could be passed by.
func (p *plainHost) bareEnvoy(tb testing.TB, records string) int {
	tb.Helper()
	binary, err := sandbox.Envoy()
	ok(tb, err)
	var listeners, clusters strings.Builder
	for name, port := range webPorts() {
		match := http1Routes
		if name == "grpc" {
			match = grpcRoutes
		}
		for _, logged := range []bool{true, false} {
			at, log := port+toUnlogged, ""
			if logged {
				at, log = port+toLogged, accessLog(tb)
			}
			fmt.Fprintf(&listeners, bareListener, at, log, fmt.Sprintf(match, name))
		}
		options := ""
		if name == "grpc" {
			options = bareHTTP2
		}
		fmt.Fprintf(&clusters, bareCluster, name, p.server4, port, options)
	}
	fmt.Fprintf(&clusters, recordsCluster, records)
	config := filepath.Join(tb.TempDir(), "envoy.yaml")
	ok(tb, os.WriteFile(config, []byte("static_resources:\n  listeners:\n"+listeners.String()+"  clusters:\n"+clusters.String()), 0o644))
	cmd := exec.Command(binary, "-c", config, "--concurrency", fmt.Sprint(envoyThreads), "--disable-hot-restart", "-l", "warn")
	out := &sandbox.Output{}
	cmd.Stdout, cmd.Stderr = out, out
	// In a group and a session of its own, as Weft's: the scheduler looks at those.
	mount, err := cgroup.FindMount()
	ok(tb, err)
	group := filepath.Join(mount, "bare-envoy")
	ok(tb, os.MkdirAll(group, 0o755))
	dir, err := os.Open(group)
	ok(tb, err)
	defer dir.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	ok(tb, p.host.Do(cmd.Start))
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		ok(tb, os.Remove(group))
		if tb.Failed() {
			tb.Logf("bare Envoy:\n%s", out)
		}
	})
	return cmd.Process.Pid
}

// bareAddr is the host's own address, to which clients of the bare Envoy go.
func (p *plainHost) bareAddr(tb testing.TB) netip.Addr {
	tb.Helper()
	addr := netip.MustParseAddr("10.245.1.1")
	ok(tb, p.host.Do(func() error {
		_, err := sandbox.Up("lo", addr.String()+"/32")
		return err
	}))
	return addr
}

const bareListener = `  - address: {socket_address: {address: 0.0.0.0, port_value: %d}}
    enable_reuse_port: true
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bare
          normalize_path: true
          merge_slashes: true
          stream_idle_timeout: 0s
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
%s          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
%s              - {name: deny, match: {prefix: ""}, direct_response: {status: 403, body: {inline_string: denied}}}
`

const http1Routes = `              - name: allow|WeftNetworkPolicy demo/server|ingress[0].toPorts[0].http[0]
                match: {prefix: /public/, headers: [{name: ":method", string_match: {exact: GET}}]}
                route: {cluster: %[1]s, timeout: 0s}
              - name: allow|WeftNetworkPolicy demo/server|ingress[0].toPorts[0].http[1]
                match: {safe_regex: {regex: "/items/[0-9]+"}, headers: [{name: ":method", string_match: {safe_regex: {regex: "GET|HEAD"}}}]}
                route: {cluster: %[1]s, timeout: 0s}
              - name: allow|WeftNetworkPolicy demo/server|ingress[0].toPorts[0].http[2]
                match: {safe_regex: {regex: "/orders/[0-9]+"}, headers: [{name: ":method", string_match: {exact: POST}}, {name: x-tenant, string_match: {exact: a}}]}
                route: {cluster: %[1]s, timeout: 0s}
`

const grpcRoutes = `              - name: allow|WeftNetworkPolicy demo/server|ingress[0].toPorts[1].grpc[0]
                match: {prefix: /shop.Items/, grpc: {}}
                route: {cluster: %[1]s, timeout: 0s}
              - name: allow|WeftNetworkPolicy demo/server|ingress[0].toPorts[1].grpc[1]
                match: {path: /shop.Orders/Get, grpc: {}}
                route: {cluster: %[1]s, timeout: 0s}
              - name: allow|WeftNetworkPolicy demo/server|ingress[0].toPorts[1].grpc[2]
                match: {path: /shop.Orders/Put, grpc: {}}
                route: {cluster: %[1]s, timeout: 0s}
`

// accessLog has the records that Weft has, as Envoy's configuration in JSON, which is YAML.
func accessLog(tb testing.TB) string {
	tb.Helper()
	logs, err := protojson.Marshal(xds.AccessLog(xds.KindHTTP))
	ok(tb, err)
	return "          access_log: [" + strings.ReplaceAll(string(logs), xds.ALSCluster, "records") + "]\n"
}

const bareCluster = `  - name: %[1]s
    type: STATIC
    connect_timeout: 5s
    load_assignment: {cluster_name: %[1]s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %[2]s, port_value: %[3]d}}}}]}]}
    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
%[4]s`

const bareHTTP2 = `    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
`

const recordsCluster = `  - name: records
    type: STATIC
    connect_timeout: 5s
    load_assignment: {cluster_name: records, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %s}}}}]}]}
` + bareHTTP2
