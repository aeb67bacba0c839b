// SPDX-License-Identifier: Apache-2.0

// Package attachment holds what the CNI plugin and the agent must agree on
// without speaking to each other: how an attachment is named, which names its
// device and files have, and the note (tombstone) that the plugin leaves when an
// attachment is deleted while the agent is away.
package attachment

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weftmesh/weft/pkg/model"
)

// Defaults that the plugin and the agent share.
const (
	DefaultSocket   = "/run/weft/cni.sock"
	DefaultStateDir = "/var/lib/weft"
	// DevicePrefix begins the name of every host-side device.
	DevicePrefix = "wf"
	// Gateway4 and Gateway6 are where a pod sends what is not its own: addresses
	// nobody has, with a permanent neighbour entry to the host-side device.
	Gateway4 = "169.254.1.1"
	Gateway6 = "fe80::1"

	maxContainerID = 128 // bytes; file names must stay below 255
	maxIfName      = 15  // bytes; IFNAMSIZ less the final NUL
)

// Key names an attachment: one interface of one container.
type Key struct {
	ContainerID string
	IfName      string
}

// String is containerID/ifname.
func (k Key) String() string { return k.ContainerID + "/" + k.IfName }

// Of is the key of an endpoint.
func Of(ep model.Endpoint) Key { return Key{ContainerID: ep.ContainerID, IfName: ep.IfName} }

var containerID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// Validate reports the first thing that is wrong with the key.
func (k Key) Validate() error {
	switch {
	case k.ContainerID == "":
		return fmt.Errorf("the container ID is empty")
	case len(k.ContainerID) > maxContainerID:
		return fmt.Errorf("the container ID is longer than %d bytes", maxContainerID)
	case !containerID.MatchString(k.ContainerID):
		return fmt.Errorf("the container ID %q has characters other than letters, digits, '_', '.', '-', or begins with one of the last three", k.ContainerID)
	}
	return ValidateIfName(k.IfName)
}

// ValidateIfName tells whether the kernel would take the name for a device.
func ValidateIfName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the interface name is empty")
	case len(name) > maxIfName:
		return fmt.Errorf("the interface name %q is longer than %d bytes", name, maxIfName)
	case name == "." || name == "..":
		return fmt.Errorf("the interface name is %q", name)
	case name == "all" || name == "default":
		return fmt.Errorf("the interface name %q is taken by sysctl", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("the interface name %q is not UTF-8", name)
	}
	for _, r := range name {
		if r == '/' || r == ':' || r == '%' || unicode.IsSpace(r) || unicode.IsControl(r) {
			return fmt.Errorf("the interface name %q contains %q", name, r)
		}
	}
	return nil
}

// HostDevice is the name of the host-side device: the same for the same key on
// every call, so that a DEL finds it without the agent.
func (k Key) HostDevice() string {
	return DevicePrefix + hex.EncodeToString(k.digest("device")[:5])
}

// PodMAC is the address of the pod's device, HostMAC that of the host-side one;
// both unicast and locally administered.
func (k Key) PodMAC() model.MAC  { return k.mac("pod") }
func (k Key) HostMAC() model.MAC { return k.mac("host") }

func (k Key) mac(role string) model.MAC {
	var m model.MAC
	copy(m[:], k.digest(role))
	m[0] = m[0]&^1 | 2
	return m
}

func (k Key) digest(role string) []byte {
	sum := sha256.Sum256([]byte(role + "\x00" + k.ContainerID + "\x00" + k.IfName))
	return sum[:]
}

// IsHostDevice tells whether a device's name is one that HostDevice makes.
func IsHostDevice(name string) bool {
	hexPart, ok := strings.CutPrefix(name, DevicePrefix)
	if !ok || len(hexPart) != 10 {
		return false
	}
	_, err := hex.DecodeString(hexPart)
	return err == nil
}

// FileName is the base name of the attachment's files. Different keys have
// different names: the '-' that matters is the last one, as those of the
// interface name are written %2d.
func (k Key) FileName() string {
	var b strings.Builder
	b.WriteString(k.ContainerID)
	b.WriteByte('-')
	for _, c := range []byte(k.IfName) {
		if c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// EndpointDir is where the agent keeps one record per endpoint.
func EndpointDir(stateDir string) string { return filepath.Join(stateDir, "endpoints") }

// TombstoneDir is where the plugin leaves its tombstones.
func TombstoneDir(stateDir string) string { return filepath.Join(stateDir, "cni", "deleted") }
