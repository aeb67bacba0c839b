// SPDX-License-Identifier: Apache-2.0

package server

// Settled tells whether FaultList has all that there is to say: every proxy has
// answered to all that is wanted, and there is one if anything is.
func (s *Server) Settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want != nil && s.acked >= s.want.revision && (len(s.sessions) > 0 || len(s.want.rulesets) == 0)
}

// Changed gives a channel that is closed when Settled or FaultList may answer otherwise.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}
