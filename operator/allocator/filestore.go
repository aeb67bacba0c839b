// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// fileVersion moves when the layout of the file does.
const fileVersion = 1

// FileStore keeps identities in one JSON file. It belongs to one allocator.
type FileStore struct {
	path  string
	known map[model.IdentityID]model.Identity // what the file holds; nil before Load
}

// NewFileStore makes a store on a file whose folder exists when it is first
// written.
func NewFileStore(path string) *FileStore { return &FileStore{path: path} }

type fileContent struct {
	Version    int              `json:"version"`
	Next       model.IdentityID `json:"next"`
	Identities []fileIdentity   `json:"identities"`
}

type fileIdentity struct {
	ID     model.IdentityID `json:"id"`
	Labels []string         `json:"labels"`
}

// Load implements Store. A file that is not there is an empty store; one that
// cannot be understood is an error, since to number anew is for a human to
// decide.
func (s *FileStore) Load(context.Context) (Snapshot, error) {
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.known = make(map[model.IdentityID]model.Identity)
		return Snapshot{}, nil
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("reading the identity file: %w", err)
	}
	snap, err := parse(data)
	if err != nil {
		return Snapshot{}, fmt.Errorf("identity file %s: %w; restore it from a backup, or move it away: "+
			"workloads then get new numbers, and policy decides open connections again", s.path, err)
	}
	s.known = make(map[model.IdentityID]model.Identity, len(snap.Identities))
	for _, id := range snap.Identities {
		s.known[id.ID] = id
	}
	return snap, nil
}

func parse(data []byte) (Snapshot, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return Snapshot{}, fmt.Errorf("damaged: %w", err)
	}
	if version.Version != fileVersion {
		return Snapshot{}, fmt.Errorf("has layout version %d, this release reads version %d", version.Version, fileVersion)
	}
	var content fileContent
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&content); err != nil {
		return Snapshot{}, fmt.Errorf("damaged: %w", err)
	}
	snap := Snapshot{Next: content.Next}
	seenID, seenLabels := map[model.IdentityID]bool{}, map[string]model.IdentityID{}
	for _, f := range content.Identities {
		id, err := f.identity()
		if err != nil {
			return Snapshot{}, fmt.Errorf("damaged: identity %d: %w", f.ID, err)
		}
		if seenID[id.ID] {
			return Snapshot{}, fmt.Errorf("damaged: identity %d is there twice", id.ID)
		}
		if other, dup := seenLabels[id.Labels.Key()]; dup {
			return Snapshot{}, fmt.Errorf("damaged: identities %d and %d have the same labels", other, id.ID)
		}
		seenID[id.ID], seenLabels[id.Labels.Key()] = true, id.ID
		snap.Identities = append(snap.Identities, id)
	}
	return snap, nil
}

func (f fileIdentity) identity() (model.Identity, error) {
	if !f.ID.IsCluster() {
		return model.Identity{}, errors.New("not a number of a workload's identity")
	}
	labels := make([]model.Label, len(f.Labels))
	for i, text := range f.Labels {
		l, err := model.ParseLabel(text)
		if err != nil {
			return model.Identity{}, err
		}
		labels[i] = l
	}
	return model.Identity{ID: f.ID, Labels: model.NewLabels(labels...)}, nil
}

// Save implements Store: it writes a new file and renames it over the old one.
func (s *FileStore) Save(_ context.Context, c Change) error {
	if s.known == nil {
		return ErrNotLoaded
	}
	after := maps.Clone(s.known)
	for _, id := range c.Put {
		after[id.ID] = id
	}
	for _, id := range c.Delete {
		delete(after, id)
	}
	content := fileContent{Version: fileVersion, Next: c.Next, Identities: make([]fileIdentity, 0, len(after))}
	for _, id := range after {
		content.Identities = append(content.Identities, fileIdentity{ID: id.ID, Labels: id.Labels.Strings()})
	}
	slices.SortFunc(content.Identities, func(a, b fileIdentity) int { return cmp.Compare(a.ID, b.ID) })
	data, err := json.MarshalIndent(content, "", " ")
	if err != nil {
		return fmt.Errorf("encoding identities: %w", err)
	}
	if err := replaceFile(s.path, append(data, '\n')); err != nil {
		return fmt.Errorf("writing the identity file: %w", err)
	}
	s.known = after
	return nil
}

// replaceFile leaves either the old or the new content, whenever the machine
// stops.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
