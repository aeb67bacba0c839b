// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftmesh/weft/pkg/attachment"
)

func TestDefaultsOfTheConfiguration(t *testing.T) {
	c, err := loadConfig([]byte(`{"cniVersion":"1.1.0","name":"weft","type":"weft-cni","capabilities":{"x":true},"runtimeConfig":{}}`))
	if err != nil || c.Socket != attachment.DefaultSocket || c.StateDir != attachment.DefaultStateDir {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestBadConfigurations(t *testing.T) {
	for conf, text := range map[string]string{
		``: "cannot be decoded", `[]`: "cannot be decoded", `{}`: "missing network name",
		`{"name":"a/b"}`:           "invalid characters",
		`{"name":"a","socket":""}`: "socket:",
		`{"name":"a","socket":"/` + strings.Repeat("s", 107) + `"}`: "longer than 107",
		`{"name":"a","stateDir":"var"}`:                             "stateDir:",
		`{"name":"a","stateDir":"/a\u0000b"}`:                       "stateDir:",
		`{"name":"a","ipam":{"type":"dhcp"}}`:                       "gives out the addresses",
	} {
		_, err := loadConfig([]byte(conf))
		var e *types.Error
		if !errors.As(err, &e) || !strings.Contains(e.Msg, text) {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func TestPrevResultWithHolesIsRefused(t *testing.T) {
	for prev, want := range map[string]string{
		`{"cniVersion":"0.3.1","ips":[null]}`:                                        "prevResult.ips[0] is null",
		`{"cniVersion":"0.2.0","ip4":{"routes":[{"dst":"::/0"},null]}}`:              "prevResult.ip4.routes[1] is null",
		`{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/32"}],"interfaces":null}`: "",
	} {
		version := strings.Split(prev, `"`)[3]
		c, err := loadConfig([]byte(`{"cniVersion":"` + version + `","name":"a","prevResult":` + prev + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.prevResult(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", prev, err, want)
		}
	}
}

func TestAbsentValidAttachmentsAreNotAnEmptyList(t *testing.T) {
	for conf, want := range map[string]int{
		`{"name":"a"}`: -1, `{"name":"a","cni.dev/valid-attachments":7}`: -1,
		`{"name":"a","cni.dev/valid-attachments":[{"containerID":"../x","ifname":"eth0"}]}`: -1,
		`{"name":"a","cni.dev/valid-attachments":[]}`:                                       0,
		`{"name":"a","cni.dev/valid-attachments":null}`:                                     0, // how libcni writes an empty list
		`{"name":"a","cni.dev/valid-attachments":[{"containerID":"x","ifname":"eth0"}]}`:    1,
	} {
		c, err := loadConfig([]byte(conf))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := c.validAttachments()
		if err != nil && want >= 0 || err == nil && len(keys) != want {
			t.Errorf("%s: %v, %v", conf, keys, err)
		}
	}
}

// FuzzInput: no input makes the plugin panic, or is taken with a name in it that
// leads out of the folders it is put in.
func FuzzInput(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"weft","type":"weft-cni"}`), "c1", "eth0", "/run/netns/a", "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c")
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"w","socket":"/s","stateDir":"/d","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}],"ips":[{"address":"10.0.0.2/32","interface":0}]}}`), "c-1.x", "net-1", "", "K8S_POD_NAME=b")
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"w","cni.dev/valid-attachments":[{"containerID":"x","ifname":"eth0"},null]}`), "..", "a/b", "x", ";")
	f.Add([]byte(`{"cniVersion":"0.3.1","name":"w","prevResult":{"cniVersion":"0.3.1","ips":[null]}}`), "M", "-", "", "=;=")
	f.Add([]byte(`{"name":"w","prevResult":null,"cni.dev/valid-attachments":null}`), "c", "eth0", "/\x00", "K8S_POD_NAMESPACE=../..;K8S_POD_NAME=a")
	f.Fuzz(func(t *testing.T, stdin []byte, containerID, ifName, netns, args string) {
		req, err := loadRequest(&skel.CmdArgs{ContainerID: containerID, IfName: ifName, Netns: netns, StdinData: stdin})
		if err == nil {
			if strings.ContainsAny(req.key.FileName(), "/\x00") || req.conf.Socket[0] != '/' || req.conf.StateDir[0] != '/' {
				t.Errorf("taken: %+v", req)
			}
			if prev, err := req.conf.prevResult(); err == nil && prev != nil {
				_ = comparePrev(prev, req, someSpec())
			}
			_, _ = req.conf.validAttachments()
		} else if !isCNIError(err) {
			t.Errorf("not an error with a code: %v", err)
		}
		pod, _, err := loadPod(args)
		if err == nil && (pod.Name == "" || strings.ContainsAny(pod.Name+pod.Namespace, "/ \x00")) {
			t.Errorf("taken: pod %q", pod)
		} else if err != nil && !isCNIError(err) {
			t.Errorf("not an error with a code: %v", err)
		}
	})
}

func isCNIError(err error) bool {
	var e *types.Error
	return errors.As(err, &e) && e.Code != 0 && e.Msg != ""
}
