// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func variant(arch string) Image {
	return Image{Architecture: arch, User: "65532:65532", Entrypoint: []string{"/usr/local/bin/x"},
		Labels: map[string]string{"a": "b"},
		Layers: [][]File{{
			{Path: "/usr/local/bin/x", Content: "program of " + arch},
			{Path: "/bin/sh", Link: "x"},
			{Path: "/tmp/", Mode: 0o1777},
		}}}
}

// blobs reads an archive: file names in their order, and contents.
func blobs(t *testing.T, archive []byte) (names []string, content map[string][]byte) {
	t.Helper()
	content = make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, content
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s tells when or by whom it was made: %+v", h.Name, h)
		}
		names = append(names, h.Name)
		if content[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func decode[T any](t *testing.T, content map[string][]byte, name string) (value T) {
	t.Helper()
	if err := json.Unmarshal(content[name], &value); err != nil {
		t.Fatalf("%s: %v: %q", name, err, content[name])
	}
	return value
}

func blob(h v1.Hash) string { return "blobs/sha256/" + h.Hex }

func TestAnArchiveHoldsAnImageForEachArchitecture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tar")
	names := []string{"example.org/a/x:v1", "example.org:5000/a/x:v1.0"}
	if err := Write(path, names, []Image{variant("amd64"), variant("arm64")}); err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files, content := blobs(t, archive)
	if !slices.Contains(files, "oci-layout") {
		t.Errorf("no oci-layout among %v", files)
	}
	top := decode[v1.IndexManifest](t, content, "index.json")
	var named []string
	for _, m := range top.Manifests {
		named = append(named, m.Annotations["io.containerd.image.name"])
	}
	if !slices.Equal(named, names) {
		t.Errorf("the archive's images are named %v", named)
	}
	index := decode[v1.IndexManifest](t, content, blob(top.Manifests[0].Digest))
	var architectures []string
	for _, m := range index.Manifests {
		architectures = append(architectures, m.Platform.Architecture)
		manifest := decode[v1.Manifest](t, content, blob(m.Digest))
		config := decode[v1.ConfigFile](t, content, blob(manifest.Config.Digest))
		if config.Architecture != m.Platform.Architecture || config.OS != "linux" || config.Config.User != "65532:65532" ||
			!slices.Equal(config.Config.Entrypoint, []string{"/usr/local/bin/x"}) || config.Config.Labels["a"] != "b" {
			t.Errorf("configuration %+v", config)
		}
		paths, layer := blobs(t, content[blob(manifest.Layers[0].Digest)])
		if want := []string{"bin/", "bin/sh", "tmp/", "usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/x"}; !slices.Equal(paths, want) {
			t.Errorf("the layer holds %v, not %v", paths, want)
		}
		if got := string(layer["usr/local/bin/x"]); got != "program of "+config.Architecture {
			t.Errorf("the program for %s is %q", config.Architecture, got)
		}
	}
	if !slices.Equal(architectures, []string{"amd64", "arm64"}) {
		t.Errorf("architectures %v", architectures)
	}
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	write := func(i Image) []byte {
		path := filepath.Join(t.TempDir(), "x.tar")
		if err := Write(path, []string{"example.org/x:v1"}, []Image{i}); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	first, other := variant("amd64"), variant("amd64")
	slices.Reverse(other.Layers[0])
	if !bytes.Equal(write(first), write(other)) {
		t.Error("the order in which files are given shows in the archive")
	}
	other.Layers[0][2].Content = "changed"
	if bytes.Equal(write(first), write(other)) {
		t.Error("another program gives the same archive")
	}
}

func TestWhatCannotBeWrittenIsAnErrorAndNoArchive(t *testing.T) {
	missing := variant("amd64")
	missing.Layers[0][0] = File{Path: "/x", From: "/no/such/file"}
	for name, write := range map[string]func(string) error{
		"no name":    func(p string) error { return Write(p, nil, []Image{variant("amd64")}) },
		"no variant": func(p string) error { return Write(p, []string{"example.org/x:v1"}, nil) },
		"no tag":     func(p string) error { return Write(p, []string{"example.org:5000/x"}, []Image{variant("amd64")}) },
		"no file":    func(p string) error { return Write(p, []string{"example.org/x:v1"}, []Image{missing}) },
	} {
		dir := t.TempDir()
		if err := write(filepath.Join(dir, "x.tar")); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}
