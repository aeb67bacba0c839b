// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// fakeLock is a Lease that can be away.
type fakeLock struct {
	resourcelock.Interface
	away error
}

func (f *fakeLock) Identity() string { return "me" }

func (f *fakeLock) Create(context.Context, resourcelock.LeaderElectionRecord) error { return f.away }

func (f *fakeLock) Update(context.Context, resourcelock.LeaderElectionRecord) error { return f.away }

// server answers all that is sent, and keeps the last request's deadline.
type server struct {
	sent     int
	deadline time.Time
	away     error
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.sent++
	s.deadline, _ = r.Context().Deadline()
	if s.away != nil {
		return nil, s.away
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("ok"))}, nil
}

func send(t *testing.T, via http.RoundTripper, method, path string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://api"+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "ok" {
		t.Errorf("read %q, %v", body, err)
	}
	return nil
}

func TestOnlyTheLeaderWrites(t *testing.T) {
	now := time.Now()
	c := NewClock(func() time.Time { return now })
	inner, s := &fakeLock{}, &server{}
	lock, via := c.Watch(inner), c.Guard(s)
	const pods, leases = "/api/v1/pods", "/apis/coordination.k8s.io/v1/namespaces/weft-system/leases/weft-operator"
	mine, free := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}, resourcelock.LeaderElectionRecord{}
	expect := func(what string, may bool) {
		t.Helper()
		before := s.sent
		err := send(t, via, http.MethodPost, pods)
		if may != (err == nil) || may != c.Leading() || !may && (!errors.Is(err, ErrNotLeader) || s.sent != before) {
			t.Errorf("%s: a write: %v, leading: %v", what, err, c.Leading())
		}
		for _, read := range []string{http.MethodGet, http.MethodHead} {
			if err := send(t, via, read, pods); err != nil {
				t.Errorf("%s: a read: %v", what, err)
			}
		}
		if err := send(t, via, http.MethodPut, leases); err != nil {
			t.Errorf("%s: the lease: %v", what, err)
		}
	}
	expect("before", false)
	inner.away = errors.New("away")
	if err := lock.Create(t.Context(), mine); !errors.Is(err, inner.away) {
		t.Error(err)
	}
	expect("an election that failed", false)
	inner.away = nil
	if err := lock.Create(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	expect("elected", true)
	if err := send(t, via, http.MethodPatch, pods); err != nil || !s.deadline.Equal(now.Add(Renew)) {
		t.Errorf("%v; a write may last until %s, the lease until %s", err, s.deadline, now.Add(Renew))
	}
	now = now.Add(Renew - time.Second)
	expect("about to end", true)
	if err := lock.Update(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	now = now.Add(Renew - time.Second)
	expect("renewed", true)
	now = now.Add(time.Second)
	expect("held up", false)
	if err := lock.Update(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	expect("renewed late, by no one else before", true)
	inner.away = errors.New("away")
	if err := lock.Update(t.Context(), free); !errors.Is(err, inner.away) {
		t.Error(err)
	}
	expect("given up, heard or not", false)
}

func TestAFailedWriteIsReported(t *testing.T) {
	c := NewClock(time.Now)
	if err := c.Watch(&fakeLock{}).Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "me"}); err != nil {
		t.Fatal(err)
	}
	s := &server{away: io.ErrUnexpectedEOF}
	if err := send(t, c.Guard(s), http.MethodPost, "/api/v1/pods"); !errors.Is(err, s.away) {
		t.Error(err)
	}
}
