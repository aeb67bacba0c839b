// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/model"
)

func portPod(ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "demo"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: ports}}}}
}

func TestHostPorts(t *testing.T) {
	pod := portPod(corev1.ContainerPort{ContainerPort: 80, HostPort: 8080, HostIP: "::", Protocol: corev1.ProtocolUDP},
		corev1.ContainerPort{ContainerPort: 80, HostPort: 8080}, corev1.ContainerPort{ContainerPort: 81})
	always := corev1.ContainerRestartPolicyAlways
	pod.Spec.InitContainers = []corev1.Container{
		{Name: "before", Ports: []corev1.ContainerPort{{ContainerPort: 90, HostPort: 9090}}},
		{Name: "beside", RestartPolicy: &always, Ports: []corev1.ContainerPort{{ContainerPort: 91, HostPort: 9091}}},
	}
	want := []model.HostPort{
		{Protocol: model.ProtoTCP, Port: 8080, PodPort: 80}, {Protocol: model.ProtoTCP, Port: 9091, PodPort: 91},
		{Addr: netip.IPv6Unspecified(), Protocol: model.ProtoUDP, Port: 8080, PodPort: 80},
	}
	out, errs := Pod(pod)
	if len(errs) > 0 || !reflect.DeepEqual(out.HostPorts, want) {
		t.Errorf("%+v, %v", out.HostPorts, errs)
	}
	pod.Spec.HostNetwork = true
	if out, errs = Pod(pod); len(errs) > 0 || out.HostPorts != nil {
		t.Errorf("in the node's network: %+v, %v", out.HostPorts, errs)
	}
}

func TestHostPortsWithFaults(t *testing.T) {
	for want, port := range map[string]corev1.ContainerPort{
		"spec.containers[0].ports[0].hostPort": {ContainerPort: 80, HostPort: 70000},
		"spec.containers[0].ports[0].hostIP":   {ContainerPort: 80, HostPort: 8080, HostIP: "everywhere"},
	} {
		if _, errs := Pod(portPod(port)); len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), want) {
			t.Errorf("%s: %v", want, errs)
		}
	}
}

func TestPodAddrs(t *testing.T) {
	pod := portPod()
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}, {IP: "nonsense"}}
	if got := PodAddrs(pod); len(got) != 2 || got[0].String() != "10.0.0.1" || got[1].String() != "fd00::1" {
		t.Errorf("running: %v", got)
	}
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		pod.Status.Phase = phase
		if got := PodAddrs(pod); got != nil {
			t.Errorf("%s: %v", phase, got)
		}
	}
	pod.Status.Phase, pod.Spec.HostNetwork = corev1.PodRunning, true
	if got := PodAddrs(pod); got != nil {
		t.Errorf("in the node's network: %v", got)
	}
}
