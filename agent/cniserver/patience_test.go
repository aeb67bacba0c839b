// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/weftmesh/weft/pkg/model"
)

// A pod of which the runtime hears before the agent, or of which the agent still has
// the one before, is waited for; one that must not be attached is not.
func TestAnAddWaitsForItsPod(t *testing.T) {
	w := newWorld()
	s := serve(t, w, t.TempDir())
	old := w.pods["a"]
	old.UID = "u0"
	asked := 0
	next := func(p model.Pod, there bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.pods, "a"); there {
			w.pods["a"] = p
		}
	}
	// Each look finds what is next: another pod of the name, none, the right one.
	s.cfg.WatchPod = func(model.PodKey) (model.Pod, bool, <-chan struct{}) {
		switch asked++; asked {
		case 1:
			next(old, true)
		case 2:
			next(model.Pod{}, false)
		case 3:
			next(pod("a"), true)
		}
		changed := make(chan struct{})
		close(changed)
		return model.Pod{}, false, changed
	}
	if _, err := prepare(t, s, 1); err != nil || asked != 3 {
		t.Errorf("after %d looks: %v", asked, err)
	}
	host := pod("a")
	host.HostNetwork = true
	next(host, true)
	_, err := prepare(t, s, 2)
	wantCode(t, err, codes.PermissionDenied)
	if asked != 4 {
		t.Errorf("looked %d times for a pod that is not attached", asked-3)
	}
}
