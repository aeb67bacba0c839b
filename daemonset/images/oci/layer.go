// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is a file of an image. Its content is Content, or, if From is set, that of
// the file there. One with Link is a symbolic link; a path that ends in / is a folder.
type File struct {
	Path    string // absolute
	Mode    int64  // 0: 0755
	From    string
	Content string
	Link    string
}

// layer is an uncompressed layer: it is read once, on this machine, and then
// packed by whoever pushes it.
type layer struct {
	content []byte
	hash    v1.Hash
}

func newLayer(files []File) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	files = withFolders(files)
	for _, f := range files {
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("adding %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	hash, _, err := v1.SHA256(bytes.NewReader(b.Bytes()))
	return &layer{content: b.Bytes(), hash: hash}, err
}

// withFolders adds the folders that paths lie in, and sorts.
func withFolders(files []File) []File {
	have := make(map[string]bool)
	for _, f := range files {
		have[strings.TrimSuffix(f.Path, "/")] = true
	}
	all := slices.Clone(files)
	for _, f := range files {
		for d := path.Dir(strings.TrimSuffix(f.Path, "/")); d != "/"; d = path.Dir(d) {
			if !have[d] {
				have[d] = true
				all = append(all, File{Path: d + "/"})
			}
		}
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all
}

func (f File) write(w *tar.Writer) error {
	header := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if header.Mode == 0 {
		header.Mode = 0o755
	}
	content := []byte(f.Content)
	switch {
	case strings.HasSuffix(f.Path, "/"):
		header.Typeflag = tar.TypeDir
	case f.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
	case f.From != "":
		var err error
		if content, err = os.ReadFile(f.From); err != nil {
			return err
		}
		fallthrough
	default:
		header.Typeflag, header.Size = tar.TypeReg, int64(len(content))
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := w.Write(content)
	return err
}

// Digest, DiffID, Compressed, Uncompressed, Size and MediaType make it a v1.Layer.
func (l *layer) Digest() (v1.Hash, error)            { return l.hash, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.hash, nil }
func (l *layer) Compressed() (io.ReadCloser, error)  { return l.Uncompressed() }
func (l *layer) Size() (int64, error)                { return int64(len(l.content)), nil }
func (l *layer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.content)), nil
}
