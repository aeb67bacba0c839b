// SPDX-License-Identifier: Apache-2.0

// Package policy compiles policies into the sets of rows that the kernel looks
// up. It is pure: what comes out depends on what is given, not on the order of
// it nor on what was given before.
//
// # How it is used
//
// Locals gives every prefix that policies name a node-local identity. A Compiler
// is given Inputs (policies, identities, prefixes, subjects: always all of them)
// and answers with one Result a subject. It keeps what did not change between
// two calls, so that a call costs what changed; the answer is that of a new
// Compiler. Rules and universe are separate inputs: the old rules over the new
// identities are one call, the new rules over them another.
//
// # Why two look-ups give the right answer
//
// Of the rules that match a packet the strongest decides: deny (precedence 2),
// else allow (1), else the default (0). Rules name peers, or everybody; ports,
// ranges and protocols are prefixes of protocol and port, so two of them are
// nested or disjoint. For each identity, and for everybody, the rows are
// resolved top down: a row says the strongest of what its own rules and those of
// every shorter prefix around it say, and a row that adds nothing to the one
// around it is left out. So the longest match under an identity is the
// strongest of all rules that name that identity and match the port; the same
// holds under everybody. The stronger of the two is the strongest of all.
package policy
