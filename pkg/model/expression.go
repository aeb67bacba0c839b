// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"regexp/syntax"
)

// maxExpression bounds what an expression becomes: the proxy takes as many steps with it
// for each letter, and all share its time.
const maxExpression = 2000

// CheckExpression tells what is wrong with a regular expression of a rule; nil: nothing.
// The proxy's RE2 and Go's have the same syntax.
func CheckExpression(expr string) error {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return err //nolint:wrapcheck // it says all
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return err //nolint:wrapcheck // it says all
	}
	size := 0
	for i := range prog.Inst {
		size += max(1, len(prog.Inst[i].Rune)/2) // a class is a step for each of its ranges
	}
	if size > maxExpression {
		return fmt.Errorf("the expression becomes %d steps, of at most %d: repeat less, and smaller classes of characters", size, maxExpression)
	}
	return nil
}
