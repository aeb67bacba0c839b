// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// ErrNoPod: no group is that of the pod.
var ErrNoPod = errors.New("the pod has no control group on this node")

// uid is how Kubernetes writes the UID of a pod.
var uid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// deepest is how many folders below the root groups of pods are looked for.
const deepest = 10

// PodFolder is the folder of a pod's group below a root. Kubelets name it pod<uid>, or,
// where systemd makes it, ...-pod<uid with _ for ->.slice.
func PodFolder(root, pod string) (string, error) {
	if !uid.MatchString(pod) {
		return "", fmt.Errorf("%q is no UID of a pod", pod)
	}
	plain, slice := "pod"+pod, "-pod"+strings.ReplaceAll(pod, "-", "_")+".slice"
	found := ""
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == root:
			return err
		case err != nil: // it has just gone
			return fs.SkipDir
		case !d.IsDir():
			return nil
		case d.Name() == plain || strings.HasSuffix(d.Name(), slice):
			found = path
			return fs.SkipAll
		case isPod(d.Name()) || strings.Count(strings.TrimPrefix(path, root), "/") >= deepest:
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("looking for the group of pod %s: %w", pod, err)
	}
	if found == "" {
		return "", fmt.Errorf("%w: %s below %s", ErrNoPod, pod, root)
	}
	return found, nil
}

// isPod tells whether a folder is the group of another pod, below which none is.
func isPod(name string) bool {
	name = strings.TrimSuffix(name, ".slice")
	if i := strings.LastIndex(name, "pod"); i >= 0 {
		return uid.MatchString(strings.ReplaceAll(name[i+len("pod"):], "_", "-"))
	}
	return false
}
