// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

// Every reason of a drop is in the table that tells what to do about it.
func TestEveryDropReasonHasARemedy(t *testing.T) {
	for _, f := range files(t) {
		if f.name != "docs/TROUBLESHOOTING.md" {
			continue
		}
		for _, r := range model.ReasonTexts()[1:] {
			if row := fmt.Sprintf("| `%s` | %s | ", r.Name, r.Sentence); !strings.Contains(string(f.content), row) {
				t.Errorf("%s has no row that begins %q", f.name, row)
			}
		}
		return
	}
	t.Error("docs/TROUBLESHOOTING.md is not there")
}
