// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/weftmesh/weft/pkg/config"
)

func TestWrongUsageIsToldFromFailure(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
	}{
		{[]string{"--config", t.TempDir() + "/none.yaml", "surplus"}, 2}, {[]string{"--bogus"}, 2}, {[]string{"version", "surplus"}, 2},
		{[]string{"--config", t.TempDir()}, 1},
	} {
		root, _ := Command("weft-x", "", "", func(context.Context, config.Config, string) error { return errors.New("it ran") })
		root.SetArgs(tt.args)
		root.SetOut(io.Discard)
		err := root.Execute()
		if err == nil || exitCode(err) != tt.code {
			t.Errorf("%v: %v; want exit status %d", tt.args, err, tt.code)
		}
	}
}
