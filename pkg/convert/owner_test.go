// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWorkloadOfAPod(t *testing.T) {
	yes := true
	for _, c := range []struct{ kind, name, hash, want string }{
		{"ReplicaSet", "web-7d9f8b6c5d", "7d9f8b6c5d", "Deployment/web"},
		{"ReplicaSet", "web-7d9f8b6c5d", "", "ReplicaSet/web-7d9f8b6c5d"},
		{"ReplicaSet", "web", "7d9f8b6c5d", "ReplicaSet/web"},
		{"StatefulSet", "db", "", "StatefulSet/db"},
		{"Job", "backup-29391840", "", "CronJob/backup"},
		{"Job", "migrate-1", "", "Job/migrate-1"},
		{"Job", "29391840", "", "Job/29391840"},
		{"Node", "node-1", "", ""},
		{"", "", "", ""},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{}}}
		if c.hash != "" {
			pod.Labels[hashLabel] = c.hash
		}
		if c.kind != "" {
			pod.OwnerReferences = []metav1.OwnerReference{{Kind: "Other", Name: "no"}, {Kind: c.kind, Name: c.name, Controller: &yes}}
		}
		got, errs := Pod(pod)
		if len(errs) > 0 || got.Workload.String() != c.want {
			t.Errorf("%s %s: got %q, want %q (%v)", c.kind, c.name, got.Workload, c.want, errs)
		}
	}
}
