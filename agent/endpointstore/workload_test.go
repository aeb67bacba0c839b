// SPDX-License-Identifier: Apache-2.0

package endpointstore

import (
	"bytes"
	"net/netip"
	"os"
	"reflect"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func TestRecordsFollowTheirPods(t *testing.T) {
	dir, devs := t.TempDir(), devices{}
	s := newStore(t, dir, "10.0.0.0/24")
	r := reserve(t, s, 1, devs)
	want := model.Pod{
		PodKey: r.Pod, UID: "u", Labels: map[string]string{"app": "web"}, ServiceAccount: "trusted",
		Ports: []model.NamedPort{{Name: "web", Protocol: model.ProtoTCP, Port: 8080}},
		HostPorts: []model.HostPort{{Protocol: model.ProtoUDP, Port: 53, PodPort: 5353},
			{Addr: netip.MustParseAddr("192.0.2.1"), Protocol: model.ProtoTCP, Port: 80, PodPort: 8080}},
	}
	found := true
	follow := func() {
		t.Helper()
		err := s.Follow(func(k model.PodKey) (model.Pod, bool) { return want, found && k == want.PodKey })
		if err != nil {
			t.Fatal(err)
		}
	}
	restored := func() (model.Pod, bool) {
		t.Helper()
		again := newStore(t, dir, "10.0.0.0/24")
		if got, err := again.Restore(devs); err != nil || got.Kept != 1 || got.Bad != nil {
			t.Fatalf("restored %+v, %v", got, err)
		}
		kept, _ := again.Get(r.Key())
		return kept.LastKnown()
	}
	if p, ok := restored(); ok {
		t.Errorf("a record without a pod gives %+v", p)
	}
	follow()
	if p, ok := restored(); !ok || !reflect.DeepEqual(p, want) {
		t.Errorf("restored\n%+v\nnot\n%+v", p, want)
	}
	want.Labels = map[string]string{"app": "other"}
	follow()
	found = false
	follow()
	if p, _ := restored(); p.Labels["app"] != "other" {
		t.Errorf("after relabelling the labels are %v", p.Labels)
	}
}

func TestOnlyChangesAreWritten(t *testing.T) {
	s := newStore(t, t.TempDir(), "10.0.0.0/24")
	r := reserve(t, s, 1, devices{})
	follow := func() []byte {
		t.Helper()
		err := s.Follow(func(k model.PodKey) (model.Pod, bool) {
			return model.Pod{PodKey: k, Labels: map[string]string{}}, true
		})
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(s.path(r.Key()))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if data := follow(); !bytes.Contains(data, []byte(`"workload": {}`)) {
		t.Errorf("the record is %s", data)
	}
	// A file that is replaced loses what was appended to it.
	f, err := os.OpenFile(s.path(r.Key()), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("mark"); err != nil {
		t.Fatal(err)
	}
	if data := follow(); !bytes.HasSuffix(data, []byte("mark")) {
		t.Error("a record was written although its pod is the same")
	}
}
