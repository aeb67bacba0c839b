// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/model"
)

// hashLabel is what a Deployment puts on its pods, and at the end of the name of
// the ReplicaSet between.
const hashLabel = "pod-template-hash"

// workload finds what a pod belongs to. The controllers between it and what people
// wrote are left out by the form of their names: to look at them would take a watch
// on each.
func workload(m *metav1.ObjectMeta) model.Workload {
	owner := metav1.GetControllerOfNoCopy(m)
	if owner == nil || owner.Kind == "Node" { // a static pod belongs to nobody
		return model.Workload{}
	}
	out := model.Workload{Kind: owner.Kind, Name: owner.Name}
	switch owner.Kind {
	case "ReplicaSet":
		hash := m.Labels[hashLabel]
		if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && hash != "" && name != "" {
			out = model.Workload{Kind: "Deployment", Name: name}
		}
	case "Job":
		if name, ok := cronJob(owner.Name); ok {
			out = model.Workload{Kind: "CronJob", Name: name}
		}
	}
	return out
}

// cronJob is the name of the CronJob that made a Job: it appends the minute since
// 1970, which has 8 digits until the year 2160.
func cronJob(job string) (string, bool) {
	i := strings.LastIndexByte(job, '-')
	if i < 1 || len(job)-i-1 != 8 || strings.Trim(job[i+1:], "0123456789") != "" {
		return "", false
	}
	return job[:i], true
}
