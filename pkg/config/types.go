// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"log/slog"
	"strings"
	"time"
)

var (
	errDuration = errors.New("want a time with its unit, such as 30s, 5m or 2h")
	errLevel    = errors.New("want debug, info, warn or error")
	errTunnel   = errors.New("want none or vxlan")
)

// Duration is a time.Duration that files spell as 30s, 5m or 2h.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return errDuration
	}
	*d = Duration(v)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is the shortest form: 6h, not 6h0m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if len(s) > 2 && s[len(s)-2:] == "0s" && s[len(s)-3] == 'm' {
		s = s[:len(s)-2]
	}
	if len(s) > 2 && s[len(s)-2:] == "0m" && s[len(s)-3] == 'h' {
		s = s[:len(s)-2]
	}
	return s
}

// Level is the severity of a log line.
type Level slog.Level

// Level implements slog.Leveler.
func (l Level) Level() slog.Level { return slog.Level(l) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(text []byte) error {
	switch string(text) {
	case "debug":
		*l = Level(slog.LevelDebug)
	case "info":
		*l = Level(slog.LevelInfo)
	case "warn":
		*l = Level(slog.LevelWarn)
	case "error":
		*l = Level(slog.LevelError)
	default:
		return errLevel
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) {
	return []byte(strings.ToLower(slog.Level(l).String())), nil
}

// TunnelProtocol is how packets between nodes are wrapped.
type TunnelProtocol uint8

// Protocols of the tunnel.
const (
	TunnelNone TunnelProtocol = iota
	TunnelVXLAN
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *TunnelProtocol) UnmarshalText(text []byte) error {
	switch string(text) {
	case "none":
		*p = TunnelNone
	case "vxlan":
		*p = TunnelVXLAN
	default:
		return errTunnel
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (p TunnelProtocol) MarshalText() ([]byte, error) {
	if p == TunnelVXLAN {
		return []byte("vxlan"), nil
	}
	return []byte("none"), nil
}
