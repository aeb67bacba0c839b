// SPDX-License-Identifier: Apache-2.0

// Package agree asks three judges the same questions about random policies: the
// slow reference model, the compiled rows, and the kernel's programs, which get
// the rows by the agent's own writers and a real frame for every question.
package agree
