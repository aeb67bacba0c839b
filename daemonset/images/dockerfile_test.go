// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
)

// TestDockerfileMakesTheSameImages: the same binaries at the same places, the same
// users and entry points.
func TestDockerfileMakesTheSameImages(t *testing.T) {
	data, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	builds := 0
	for _, i := range images() {
		target := strings.TrimPrefix(i.name, "weft-")
		_, stage, found := strings.Cut(text, "\nFROM scratch AS "+target+"\n")
		stage, _, _ = strings.Cut(stage, "\nFROM ")
		for binary, pkg := range i.binaries {
			builds++
			want := ` -trimpath -buildvcs=false -ldflags="-s -w" -o /` + target + place(binary) + " " + pkg + "\n"
			if !strings.Contains(text, want) {
				t.Errorf("nothing builds %s: %q is not there", binary, want)
			}
		}
		if !found || !strings.Contains(stage, "COPY --from=build /"+target+"/ /\n") ||
			!strings.Contains(stage, `ENTRYPOINT ["`+place(i.main)+`"]`) {
			t.Errorf("target %s is not as make images makes it:\n%s", target, stage)
		}
		if i.user != "" && !strings.Contains(stage, "USER "+i.user+"\n") || i.user == "" && strings.Contains(stage, "USER") {
			t.Errorf("target %s: the user must be %q:\n%s", target, i.user, stage)
		}
	}
	if n := strings.Count(text, "\nRUN go build "); n != builds {
		t.Errorf("%d binaries are built, want %d", n, builds)
	}
}
