// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// ofRequest matches requests of HTTP alone: of gRPC, too, but not what else the proxy tells.
func ofRequest(match func(*model.Request) bool) Match {
	return func(f *model.Flow) bool { return f.Request != nil && f.Request.Method != "" && match(f.Request) }
}

func methodField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetHttpMethod()) == 0 {
		return nil, nil
	}
	return ofRequest(func(r *model.Request) bool {
		return slices.ContainsFunc(f.GetHttpMethod(), func(m string) bool { return strings.EqualFold(m, r.Method) })
	}), nil
}

func pathField(f *agentv1.FlowFilter) (Match, error) {
	var paths []*regexp.Regexp
	for _, s := range f.GetHttpPath() {
		re, err := regexp.Compile("^(?:" + s + ")")
		if err != nil {
			return nil, fmt.Errorf("http path %q: %w", s, err)
		}
		paths = append(paths, re)
	}
	if len(paths) == 0 {
		return nil, nil
	}
	return ofRequest(func(r *model.Request) bool {
		return slices.ContainsFunc(paths, func(re *regexp.Regexp) bool { return re.MatchString(r.Path) })
	}), nil
}

func statusField(f *agentv1.FlowFilter) (Match, error) {
	for _, s := range f.GetHttpStatus() {
		if !isStatus(s) {
			return nil, fmt.Errorf("http status %q: want a number such as 404, or its beginning and a plus: 5+", s)
		}
	}
	if len(f.GetHttpStatus()) == 0 {
		return nil, nil
	}
	return ofRequest(func(r *model.Request) bool {
		have := strconv.FormatUint(uint64(r.Status), 10)
		return slices.ContainsFunc(f.GetHttpStatus(), func(s string) bool {
			begin, open := strings.CutSuffix(s, "+")
			return have == s || open && r.Status != 0 && strings.HasPrefix(have, begin)
		})
	}), nil
}

// isStatus: three digits, or one or two and a plus; 0 is where no answer came.
func isStatus(s string) bool {
	begin, open := strings.CutSuffix(s, "+")
	if s == "0" {
		return true
	}
	if open && (len(begin) == 0 || len(begin) > 2) || !open && len(begin) != 3 {
		return false
	}
	return strings.Trim(begin, "0123456789") == "" && begin[0] != '0'
}
