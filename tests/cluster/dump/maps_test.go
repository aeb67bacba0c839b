// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"io"
	"io/fs"
	"testing"
)

// A folder that was listed and is gone when it is looked into ends nothing; one that was
// asked for must be there.
func TestAFolderThatGoesIsPassedOver(t *testing.T) {
	walk := below(io.Discard, "/maps")
	if err := walk("/maps/gone", nil, fs.ErrNotExist); err != nil {
		t.Errorf("gone: %v", err)
	}
	if err := walk("/maps", nil, fs.ErrNotExist); err == nil {
		t.Error("what was asked for is missing, and no error")
	}
	if err := walk("/maps/shut", nil, fs.ErrPermission); err == nil {
		t.Error("what cannot be read is no error")
	}
}
