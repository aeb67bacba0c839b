// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
)

// SnapshotFile is the name, in the folder of the node's sockets, of the file with
// all that is in force: for an Envoy that starts while the agent is away.
const SnapshotFile = "xds.last"

// otherBlock is before the names of the listeners of block 1; all else is the same.
const otherBlock = "block-1/"

// save writes the snapshot if it is another than the last.
func (s *Server) save(want *state) error {
	all := &discoveryv3.DeltaDiscoveryResponse{SystemVersionInfo: strconv.FormatUint(uint64(want.revision), 10)}
	enter := func(prefix string, of map[string]xds.Resource) {
		for _, name := range sortedNames(of) {
			r := of[name]
			all.Resources = append(all.Resources, &discoveryv3.Resource{Name: prefix + name, Version: r.Version, Resource: r.Body})
		}
	}
	for _, url := range order() {
		enter("", want.resources[0][url])
	}
	enter(otherBlock, want.resources[1][xds.TypeListener])
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(all)
	if err != nil {
		return fmt.Errorf("encoding what is in force: %w", err)
	}
	if old, err := os.ReadFile(s.snapshot); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := attachment.WriteFile(s.snapshot, text, 0o600); err != nil {
		return fmt.Errorf("keeping what is in force: %w", err)
	}
	return nil
}

// restore sets what was in force last, from the snapshot, for who stands in for the
// agent. A snapshot that is not there changes nothing.
func (s *Server) restore() error {
	text, err := os.ReadFile(s.snapshot)
	if err != nil {
		return fmt.Errorf("reading what was in force: %w", err)
	}
	all := new(discoveryv3.DeltaDiscoveryResponse)
	if err := proto.Unmarshal(text, all); err != nil {
		return fmt.Errorf("reading what was in force: %w", err)
	}
	revision, err := strconv.ParseUint(all.SystemVersionInfo, 10, 64)
	if err != nil {
		return fmt.Errorf("reading what was in force: %w", err)
	}
	want := newState(model.Revision(revision))
	for _, r := range all.Resources {
		url := r.Resource.GetTypeUrl()
		name, other := strings.CutPrefix(r.Name, otherBlock)
		for block, of := range want.resources {
			if of[url] != nil && (url != xds.TypeListener || other == (block == 1)) {
				of[url][name] = xds.Resource{Name: name, Version: r.Version, Body: r.Resource}
			}
		}
	}
	s.set(want)
	return nil
}
