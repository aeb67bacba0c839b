// SPDX-License-Identifier: Apache-2.0

// Package oci writes container images into files, without a registry or a daemon:
// an archive in the OCI image layout, which `ctr images import`, `podman load`,
// `skopeo` and `crane push` read. The same input gives the same bytes: files are
// sorted, and owners and times are those of nobody and no day.
package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is a container image for one architecture. Each of Layers is a set of files.
type Image struct {
	Architecture string // as Go names it
	Layers       [][]File
	Entrypoint   []string
	Cmd          []string
	User         string // "uid:gid"; empty: root
	Labels       map[string]string
}

// searchPath is what a shell in the image finds.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Write writes one image, in its variants for architectures, into an archive, which
// holds it by the given full names.
func Write(path string, names []string, variants []Image) error {
	if len(names) == 0 || len(variants) == 0 {
		return errors.New("writing an image: a name and a variant are needed")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, variant := range variants {
		image, err := variant.build()
		if err != nil {
			return fmt.Errorf("building image %s for %s: %w", names[0], variant.Architecture, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: variant.Architecture}}})
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".layout-")
	if err != nil {
		return fmt.Errorf("writing image %s: %w", names[0], err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := writeLayout(dir, names, index); err != nil {
		return fmt.Errorf("writing image %s: %w", names[0], err)
	}
	if err := archive(path, dir); err != nil {
		return fmt.Errorf("writing image %s: %w", names[0], err)
	}
	return nil
}

func writeLayout(dir string, names []string, index v1.ImageIndex) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for _, name := range names {
		_, tag, ok := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
		if !ok {
			return fmt.Errorf("%s has no tag", name)
		}
		// The first is containerd's, the second everybody's.
		if err := to.AppendIndex(index, layout.WithAnnotations(map[string]string{
			"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag})); err != nil {
			return err
		}
	}
	return nil
}

func (i Image) build() (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range i.Layers {
		layer, err := newLayer(files)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", i.Architecture
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = v1.Config{Env: []string{searchPath}, Entrypoint: i.Entrypoint, Cmd: i.Cmd, User: i.User, Labels: i.Labels}
	return mutate.ConfigFile(image, config)
}
