// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
)

// config is what standard input says. Fields of others (capabilities, args,
// runtimeConfig) are the runtime's and are let pass.
type config struct {
	CNIVersion string         `json:"cniVersion"`
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Socket     string         `json:"socket"`
	StateDir   string         `json:"stateDir"`
	IPAM       map[string]any `json:"ipam"`

	PrevResult map[string]any  `json:"prevResult"`
	Valid      json.RawMessage `json:"cni.dev/valid-attachments"`
}

// loadConfig decodes and checks standard input.
func loadConfig(data []byte) (config, error) {
	c := config{Socket: attachment.DefaultSocket, StateDir: attachment.DefaultStateDir}
	if err := json.Unmarshal(data, &c); err != nil {
		return config{}, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("the network configuration cannot be decoded: %v", err), "")
	}
	if err := utils.ValidateNetworkName(c.Name); err != nil {
		return config{}, err
	}
	for _, p := range [][2]string{{"socket", c.Socket}, {"stateDir", c.StateDir}} {
		if !filepath.IsAbs(p[1]) || strings.ContainsRune(p[1], 0) {
			return config{}, badConfig("%s: %q is not an absolute path", p[0], p[1])
		}
	}
	if len(c.Socket) > maxSocketPath {
		return config{}, badConfig("socket: the path is longer than %d bytes, which is all that the kernel takes", maxSocketPath)
	}
	if t, ok := c.IPAM["type"]; ok {
		return config{}, badConfig("ipam: type %q cannot be used, as the weft agent gives out the addresses", fmt.Sprint(t))
	}
	return c, nil
}

// maxSocketPath is the room in sockaddr_un, less the final NUL.
const maxSocketPath = 107

func badConfig(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
}

// prevResult decodes what the chain has made so far; nil: nothing.
func (c config) prevResult() (*current.Result, error) {
	if c.PrevResult == nil {
		return nil, nil
	}
	// What converts results takes it that there are none.
	if at := firstNull("prevResult", c.PrevResult); at != "" {
		return nil, badConfig("%s is null; leave the element out", at)
	}
	data, err := json.Marshal(c.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("prevResult: %v", err), "")
	}
	raw, err := version.NewResult(c.CNIVersion, data)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("prevResult cannot be decoded: %v", err), "")
	}
	result, err := current.NewResultFromResult(raw)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("prevResult cannot be converted: %v", err), "")
	}
	return result, nil
}

// firstNull is the place of an element of a list that is null, or empty.
func firstNull(path string, value any) string {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if at := firstNull(path+"."+key, v[key]); at != "" {
				return at
			}
		}
	case []any:
		for i, element := range v {
			at := fmt.Sprintf("%s[%d]", path, i)
			if element == nil {
				return at
			}
			if at = firstNull(at, element); at != "" {
				return at
			}
		}
	}
	return ""
}

// validAttachments is the list that GC needs. Absent is not empty: taking it so
// would release everything.
func (c config) validAttachments() ([]attachment.Key, error) {
	if c.Valid == nil {
		return nil, badConfig("cni.dev/valid-attachments is missing, without which nothing can be collected")
	}
	var list []types.GCAttachment
	dec := json.NewDecoder(bytes.NewReader(c.Valid))
	if err := dec.Decode(&list); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("cni.dev/valid-attachments cannot be decoded: %v", err), "")
	}
	keys := make([]attachment.Key, 0, len(list))
	for i, a := range list {
		key := attachment.Key(a)
		if err := key.Validate(); err != nil {
			return nil, badConfig("cni.dev/valid-attachments[%d]: %v", i, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// request is one call: the configuration and what the CNI_* variables say.
type request struct {
	conf  config
	key   attachment.Key
	netns string
}

// loadRequest checks the input of ADD, CHECK and DEL.
func loadRequest(args *skel.CmdArgs) (request, error) {
	conf, err := loadConfig(args.StdinData)
	if err != nil {
		return request{}, err
	}
	key := attachment.Key{ContainerID: args.ContainerID, IfName: args.IfName}
	if err := key.Validate(); err != nil {
		return request{}, badEnv("%v", err)
	}
	if args.Netns != "" && (!filepath.IsAbs(args.Netns) || strings.ContainsRune(args.Netns, 0)) {
		return request{}, badEnv("CNI_NETNS: %q is not an absolute path", args.Netns)
	}
	return request{conf: conf, key: key, netns: args.Netns}, nil
}

func badEnv(format string, args ...any) error {
	return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf(format, args...), "")
}

// podArgs is what CNI_ARGS says of the pod.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE          types.UnmarshallableString
	K8S_POD_NAME               types.UnmarshallableString
	K8S_POD_UID                types.UnmarshallableString
	K8S_POD_INFRA_CONTAINER_ID types.UnmarshallableString
}

// loadPod finds the pod's name and UID in CNI_ARGS.
func loadPod(args string) (model.PodKey, string, error) {
	var a podArgs
	if err := types.LoadArgs(args, &a); err != nil {
		return model.PodKey{}, "", badEnv("CNI_ARGS: %v", err)
	}
	pod := model.PodKey{Namespace: string(a.K8S_POD_NAMESPACE), Name: string(a.K8S_POD_NAME)}
	for _, kv := range [][2]string{{"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name}} {
		if kv[1] == "" {
			return model.PodKey{}, "", badEnv("CNI_ARGS has no %s: weft needs to know which pod it attaches", kv[0])
		}
		if !isDNSName(kv[1]) {
			return model.PodKey{}, "", badEnv("CNI_ARGS: %s %q is not a name that Kubernetes would take", kv[0], kv[1])
		}
	}
	if !isPrintable(string(a.K8S_POD_UID)) {
		return model.PodKey{}, "", badEnv("CNI_ARGS: K8S_POD_UID %q has characters that no UID has", string(a.K8S_POD_UID))
	}
	return pod, string(a.K8S_POD_UID), nil
}

// isDNSName: lower case letters, digits, '-' and '.', as in a DNS subdomain.
func isDNSName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (c != '-' && c != '.' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return true
}

func isPrintable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(s) <= 253
}
