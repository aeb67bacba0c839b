// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/weftmesh/weft/pkg/model"
)

// maxExpression bounds an expression's text: what it becomes takes some hundred
// times as much memory in each of Envoy's threads.
const maxExpression = 4096

// checkExpression tells what is wrong with an expression. Envoy's RE2 and Go's have
// the same syntax; what Envoy refuses all the same is found when it does.
func checkExpression(what, expr string) error {
	if len(expr) > maxExpression {
		return fmt.Errorf("%s: the expression has %d bytes, of at most %d", what, len(expr), maxExpression)
	}
	if err := model.CheckExpression(expr); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	// Also as it will stand, so that it cannot take in what comes after it.
	if _, err := regexp.Compile(whole(expr)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func whole(expr string) string { return "(?:" + expr + ")" }

func isLiteral(expr string) bool { return regexp.QuoteMeta(expr) == expr }

// prefixOf is the text before a final .* if that is the whole expression.
func prefixOf(expr string) (string, bool) {
	text, ok := strings.CutSuffix(expr, ".*")
	return text, ok && isLiteral(text)
}

func regex(expr string) *matcherv3.RegexMatcher { return &matcherv3.RegexMatcher{Regex: expr} }

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func matching(expr string) *matcherv3.StringMatcher {
	if isLiteral(expr) {
		return exactly(expr)
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(whole(expr))}}
}

// hostExpression matches an authority: names of hosts know no case, and the port
// does not count.
func hostExpression(expr string) string { return "(?i:" + whole(expr) + ")(?::[0-9]*)?" }

var (
	serverName = regexp.MustCompile(`^(\*|[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?)(\.(\*|[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?))*$`)
	token      = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9a-z]+$")
)

var errServerName = errors.New("is not a host's name, in which a label may be *")

// serverNameExpression is that of a name in which * is one label.
func serverNameExpression(name string) string {
	labels := strings.Split(strings.ToLower(name), ".")
	for i, l := range labels {
		if l == "*" {
			labels[i] = "[^.]+"
			continue
		}
		labels[i] = regexp.QuoteMeta(l)
	}
	return strings.Join(labels, `\.`)
}
