// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"bytes"
	"regexp"
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

func TestTestsNeitherSleepNorSkip(t *testing.T) {
	sleep := regexp.MustCompile(`\btime\.Sleep\(`)
	skip := regexp.MustCompile(`\b[tbf]\.(Skip|Skipf|SkipNow)\(`)
	named := regexp.MustCompile(`\.Skipf?\("kernel: `)
	for _, f := range files(t) {
		if !strings.HasSuffix(f.name, "_test.go") && !strings.HasPrefix(f.name, "tests/") || f.ext() != ".go" ||
			strings.HasPrefix(f.name, "tests/repo/") || strings.HasPrefix(f.name, "tests/run/") {
			continue
		}
		for i, line := range strings.Split(string(f.content), "\n") {
			if sleep.MatchString(line) {
				t.Errorf("%s:%d: wait for a condition with a deadline, do not sleep", f.name, i+1)
			}
			if skip.MatchString(line) && !named.MatchString(line) {
				t.Errorf(`%s:%d: only a missing kernel feature skips: t.Skip("kernel: …")`, f.name, i+1)
			}
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
