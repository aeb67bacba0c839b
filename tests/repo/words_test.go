// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"bytes"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rule is a thing that must not be written, and where it may be after all. The
// expressions are broken up so that this file does not hold what it forbids.
type rule struct {
	what   *regexp.Regexp
	why    string
	except func(name string) bool
}

func rules() []rule {
	never := func(string) bool { return false }
	return []rule{
		{regexp.MustCompile(`(^|[\s"'=(:])/wo` + `rk/|/ho` + `me/[a-z]|/ro` + `ot/[a-z.]`), "a path of one machine", never},
		{regexp.MustCompile(`\.\./sha` + `red\b`), "only .ci/run knows what lies beside the repository",
			func(name string) bool { return name == ".ci/run" }},
		{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`), "unfinished work: finish it, or write an issue", never},
		{regexp.MustCompile(`https?://[^/\s"]*(proxy\.golang|goproxy|artifac` + `tory|nexus|registry\.npm)`), "the address of a registry", never},
	}
}

func TestNothingForbiddenIsWritten(t *testing.T) {
	for _, f := range files(t) {
		if strings.HasSuffix(f.name, ".sum") || f.ext() == ".o" || f.ext() == ".png" || f.generated() {
			continue
		}
		for _, r := range rules() {
			if r.except(f.name) {
				continue
			}
			for _, at := range r.what.FindAllIndex(f.content, -1) {
				line := bytes.Count(f.content[:at[0]], []byte("\n")) + 1
				t.Errorf("%s:%d: %q: %s", f.name, line, f.content[at[0]:at[1]], r.why)
			}
		}
	}
}

// TestTestsNeitherSleepNorSkip lets a sleep pass between two looks at a
// condition, which is in a loop.
func TestTestsNeitherSleepNorSkip(t *testing.T) {
	for _, f := range goFiles(t) {
		if !f.test() && !strings.HasPrefix(f.name, "tests/") {
			continue
		}
		var stack []ast.Node
		ast.Inspect(f.tree, func(n ast.Node) bool {
			if n == nil {
				stack = stack[:len(stack)-1]
				return true
			}
			stack = append(stack, n)
			if call, ok := n.(*ast.CallExpr); ok {
				checkCall(t, f, call, stack)
			}
			return true
		})
	}
}

func checkCall(t *testing.T, f goFile, call *ast.CallExpr, stack []ast.Node) {
	t.Helper()
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	receiver, _ := sel.X.(*ast.Ident)
	switch sel.Sel.Name {
	case "Sleep":
		inLoop := slices.ContainsFunc(stack, func(n ast.Node) bool { _, ok := n.(*ast.ForStmt); return ok })
		if receiver != nil && receiver.Name == "time" && !inLoop {
			t.Errorf("%s:%d: wait for a condition with a deadline, do not sleep", f.name, f.line(call.Pos()))
		}
	case "Skip", "Skipf", "SkipNow":
		reason := ""
		if len(call.Args) > 0 {
			if lit, ok := call.Args[0].(*ast.BasicLit); ok {
				reason = lit.Value
			}
		}
		if receiver != nil && len(receiver.Name) <= 2 && !strings.HasPrefix(reason, `"kernel: `) {
			t.Errorf(`%s:%d: only a missing kernel feature skips: t.Skip("kernel: …")`, f.name, f.line(call.Pos()))
		}
	}
}

func TestVersionAndChangelogAgree(t *testing.T) {
	var version, changelog string
	for _, f := range files(t) {
		switch f.name {
		case "VERSION":
			version = strings.TrimSpace(string(f.content))
		case "CHANGELOG.md":
			changelog = string(f.content)
		}
	}
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?$`).MatchString(version) {
		t.Errorf("VERSION holds %q, not a semantic version", version)
	}
	first := regexp.MustCompile(`(?m)^## (\S+)`).FindStringSubmatch(changelog)
	if first == nil || first[1] != version {
		t.Errorf("CHANGELOG.md's first section is %q, VERSION says %q", first, version)
	}
}

// TestDocumentsLinkToWhatIsThere follows the links between documents.
func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	all := files(t)
	there := make(map[string]bool, len(all))
	for _, f := range all {
		there[f.name] = true
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, f := range all {
		if f.ext() != ".md" {
			continue
		}
		for _, m := range link.FindAllSubmatch(f.content, -1) {
			if to := path.Join(path.Dir(f.name), string(m[1])); !there[to] {
				t.Errorf("%s links to %s, which is not there", f.name, to)
			}
		}
	}
}
