// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// admin is Envoy's own interface, on a socket that only root may use.
type admin struct{ client *http.Client }

const adminTimeout = 2 * time.Second

func newAdmin(path string) admin {
	return admin{&http.Client{Timeout: adminTimeout, Transport: &http.Transport{
		DisableKeepAlives: true, // the process behind the socket changes
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

func (a admin) call(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy: %w", err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading Envoy's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking Envoy for %s: %s", path, resp.Status)
	}
	return text, nil
}

// epoch of the Envoy that runs; false if none does.
func (a admin) epoch(ctx context.Context) (int, bool) {
	text, err := a.call(ctx, http.MethodGet, "/server_info")
	if err != nil {
		return 0, false
	}
	var info struct {
		Options struct {
			Epoch int `json:"restart_epoch"`
		} `json:"command_line_options"`
	}
	if json.Unmarshal(text, &info) != nil {
		return 0, false
	}
	return info.Options.Epoch, true
}

// drain has clients leave, by asking them to with the answers that they get, until
// none is there or the time is up. What cannot be asked is not waited for.
func (a admin) drain(limit time.Duration) {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	if _, err := a.call(ctx, http.MethodPost, "/drain_listeners?graceful&skip_exit"); err != nil {
		return
	}
	tick := time.NewTicker(look / 10)
	defer tick.Stop()
	for {
		n, err := a.connections(ctx)
		if err != nil || n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// connections is how many clients there are.
func (a admin) connections(ctx context.Context) (n int, err error) {
	text, err := a.call(ctx, http.MethodGet, "/stats?filter=^(http|tcp)\\.weft\\.downstream_cx_active$")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		_, value, _ := strings.Cut(line, ":")
		one, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			return 0, fmt.Errorf("reading Envoy's counters: %w", err)
		}
		n += one
	}
	return n, nil
}
