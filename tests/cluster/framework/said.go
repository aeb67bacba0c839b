// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"errors"
	"fmt"
	"strings"
)

// Said is the error of a command, with what the command said.
func Said(out string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Wants is an error if the text has not every part.
func Wants(text string, parts ...string) error {
	var err error
	for _, p := range parts {
		if !strings.Contains(text, p) {
			err = errors.Join(err, fmt.Errorf("it does not say %q", p))
		}
	}
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, text)
	}
	return nil
}
