// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

// proxy is kubectl proxy: requests to the API server without a kubectl for each.
type proxy struct {
	*world
	url string
}

func (w *world) startProxy() *proxy {
	w.T.Helper()
	cmd := exec.Command("bash", "-c", "exec kubectl proxy --port=0")
	cmd.Env = w.Env()
	out, err := cmd.StdoutPipe()
	w.ok(err)
	w.ok(cmd.Start())
	w.T.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	w.ok(err)
	address, found := strings.CutPrefix(strings.TrimSpace(line), "Starting to serve on ")
	if !found {
		w.T.Fatalf("kubectl proxy says %q", line)
	}
	return &proxy{world: w, url: "http://" + address}
}

// request must succeed. It is not the benchmark's context: it is also made at its end.
func (p *proxy) request(method, path, kind, body string) error {
	request, err := http.NewRequestWithContext(context.Background(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", kind)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// apply is the request that kubectl apply --server-side makes.
func (p *proxy) apply(path, yaml string) error {
	return p.request(http.MethodPatch, path+"?fieldManager=kubectl&force=true", "application/apply-patch+yaml", yaml)
}

// object is one that is not in a namespace.
type object struct{ plural, name, yaml string }

// applyAll makes objects, several at a time.
func (p *proxy) applyAll(objects []object) {
	p.T.Helper()
	errs := make([]error, len(objects))
	room := make(chan struct{}, 8)
	var all sync.WaitGroup
	for i, o := range objects {
		room <- struct{}{}
		all.Go(func() {
			errs[i] = p.apply(weftAPI+o.plural+"/"+o.name, o.yaml)
			<-room
		})
	}
	all.Wait()
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(failed) > 0 {
		p.T.Fatalf("%d of %d objects were refused: %v", len(failed), len(objects), failed[0])
	}
}

const weftAPI = "/apis/weftmesh.io/v1alpha1/"
