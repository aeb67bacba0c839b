// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// envoy is the stock Envoy, with a fixed configuration.
type envoy struct {
	*node
	cmd *exec.Cmd
	log string
}

// envoy starts Envoy with rulesets, each of which lets one path pass, and waits until
// the kernel knows all its listeners.
func (n *node) envoy(paths map[model.RulesetID]string) *envoy {
	n.Helper()
	binary, err := sandbox.Envoy()
	ok(n, err)
	dir := n.TempDir()
	config := filepath.Join(dir, "envoy.yaml")
	ok(n, os.WriteFile(config, []byte(envoyConfig(paths)), 0o644))
	group, err := os.Open(n.group)
	ok(n, err)
	defer group.Close()
	e := &envoy{node: n, log: filepath.Join(dir, "log")}
	e.cmd = exec.Command(binary, "-c", config, "--concurrency", "2", "--disable-hot-restart",
		"--log-level", "warning", "--log-path", e.log)
	e.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	within(n.T, n.ns, e.cmd.Start)
	n.Cleanup(e.kill)
	ok(n, sandbox.Eventually(n.Context(), soon, "Envoy listens", func() error {
		ready, err := n.dp.ReadyRulesets()
		if err == nil && len(ready) != len(paths) {
			err = fmt.Errorf("ready are %v", ready)
		}
		return err
	}))
	return e
}

// kill ends Envoy as a crash would, and waits until it has ended.
func (e *envoy) kill() {
	if e.cmd.ProcessState != nil {
		return
	}
	if err := e.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.Error(err)
	}
	_ = e.cmd.Wait() // it was killed
	if text, err := os.ReadFile(e.log); err == nil && len(text) > 0 && e.Failed() {
		e.Logf("Envoy's log:\n%s", text)
	}
}

func envoyConfig(paths map[model.RulesetID]string) string {
	var b strings.Builder
	b.WriteString("static_resources:\n  listeners:\n")
	var ids []model.RulesetID
	for id := range paths {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		fmt.Fprintf(&b, listenerConfig, id, model.ProxyPort(0, id), model.ProxyMark(id), paths[id])
	}
	b.WriteString(`  clusters:
  - name: original
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    connect_timeout: 5s
`)
	return b.String()
}

const listenerConfig = `  - name: ruleset-%[1]d
    address: {socket_address: {address: 127.0.0.1, port_value: %[2]d}}
    additional_addresses: [{address: {socket_address: {address: "::1", port_value: %[2]d}}}]
    transparent: true
    enable_reuse_port: true
    listener_filters:
    - name: envoy.filters.listener.original_dst
      typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}
    - name: envoy.filters.listener.original_src
      typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc, mark: %[3]d}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ruleset
          delayed_close_timeout: 0s
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              retry_policy: {retry_on: "connect-failure,reset-before-request", num_retries: 3}
              routes:
              - match: {path: "%[4]s"}
                route: {cluster: original}
              - match: {prefix: "/"}
                direct_response: {status: 403, body: {inline_string: "refused by ruleset %[1]d"}}
`
