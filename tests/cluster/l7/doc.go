// SPDX-License-Identifier: Apache-2.0

// Package l7 has a real Kubernetes enforce rules about requests, with the stock Envoy as the
// chart installs it: who may ask for what, on the same node and across nodes, over both
// families; and that nobody notices when agents or Envoys are replaced, or agents are
// killed, while requests are made and counted.
package l7
