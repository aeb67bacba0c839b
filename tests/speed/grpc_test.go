// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	frameHead   = 9
	grpcHead    = 5  // before each message
	grpcStreams = 16 // at a time: their bodies are within the smallest window
	grpcWindow  = 16 << 10
)

// grpcEnd is either end of a connection of gRPC with calls of one message each.
type grpcEnd struct {
	server  bool
	next    uint32 // stream of the next call
	encode  *hpack.Encoder
	block   bytes.Buffer
	decode  *hpack.Decoder
	fields  map[string]string
	unread  int // bytes that the other side has not been given back
	greeted bool
}

func newGRPCEnd(server bool) *grpcEnd {
	g := &grpcEnd{server: server, next: 1, fields: map[string]string{}}
	g.encode = hpack.NewEncoder(&g.block)
	g.decode = hpack.NewDecoder(4096, func(f hpack.HeaderField) { g.fields[f.Name] = f.Value })
	return g
}

func (g *grpcEnd) atOnce() int { return grpcStreams }

func (g *grpcEnd) hello(out []byte) []byte {
	if !g.server {
		out = append(out, http2.ClientPreface...)
	}
	return frame(out, http2.FrameSettings, 0, 0, nil)
}

func (g *grpcEnd) request(out []byte) []byte {
	out = g.headers(out, g.next, 0, ":method", "POST", ":scheme", "http", ":path", "/shop.Orders/Put", ":authority", "web.demo",
		"content-type", "application/grpc", "te", "trailers", "user-agent", "bench", "x-tenant", "a")
	out = message(out, g.next, http2.FlagDataEndStream)
	g.next += 2
	return out
}

func (g *grpcEnd) answer(out []byte, stream uint32) []byte {
	out = g.headers(out, stream, 0, ":status", "200", "content-type", "application/grpc")
	out = message(out, stream, 0)
	return g.headers(out, stream, http2.FlagHeadersEndStream, "grpc-status", "0")
}

func (g *grpcEnd) headers(out []byte, stream uint32, flags http2.Flags, pairs ...string) []byte {
	g.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = g.encode.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // to a buffer
	}
	return frame(out, http2.FrameHeaders, flags|http2.FlagHeadersEndHeaders, stream, g.block.Bytes())
}

func message(out []byte, stream uint32, flags http2.Flags) []byte {
	var body [grpcHead + webBody]byte
	binary.BigEndian.PutUint32(body[1:], webBody)
	return frame(out, http2.FrameData, flags, stream, body[:])
}

func frame(out []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	out = append(out, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), byte(kind), byte(flags))
	return append(binary.BigEndian.AppendUint32(out, stream), payload...)
}

func (g *grpcEnd) read(in []byte, out *[]byte) (used, messages int, err error) {
	if g.server && !g.greeted {
		if len(in) < len(http2.ClientPreface) {
			return 0, 0, nil
		}
		if !strings.HasPrefix(string(in[:len(http2.ClientPreface)]), http2.ClientPreface) {
			return 0, 0, fmt.Errorf("got %q", in[:len(http2.ClientPreface)])
		}
		used, g.greeted = len(http2.ClientPreface), true
		*out = g.hello(*out)
	}
	for len(in)-used >= frameHead {
		head := in[used : used+frameHead]
		size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if len(in)-used < frameHead+size {
			break
		}
		ended, err := g.take(http2.FrameType(head[3]), http2.Flags(head[4]), binary.BigEndian.Uint32(head[5:]), in[used+frameHead:used+frameHead+size], out)
		if err != nil {
			return 0, 0, err
		}
		used += frameHead + size
		if ended {
			messages++
		}
	}
	return used, messages, nil
}

// take reads a frame, and tells whether a call, or an answer, ends with it.
func (g *grpcEnd) take(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte, out *[]byte) (ended bool, err error) {
	switch kind {
	case http2.FrameHeaders:
		clear(g.fields)
		if _, err := g.decode.Write(payload); err != nil {
			return false, err
		}
		if flags.Has(http2.FlagHeadersEndStream) {
			if g.fields["grpc-status"] != "0" {
				return false, fmt.Errorf("a call ended with %v", g.fields)
			}
			return true, nil
		}
	case http2.FrameData:
		if g.unread += len(payload); g.unread >= grpcWindow {
			*out = frame(*out, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(g.unread)))
			g.unread = 0
		}
		if ended = flags.Has(http2.FlagDataEndStream); ended && g.server {
			*out = g.answer(*out, stream)
		}
	case http2.FrameSettings:
		if !flags.Has(http2.FlagSettingsAck) {
			*out = frame(*out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
		}
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			*out = frame(*out, http2.FramePing, http2.FlagPingAck, 0, payload)
		}
	case http2.FrameRSTStream, http2.FrameGoAway:
		return false, fmt.Errorf("got %v for stream %d: %x", kind, stream, payload)
	}
	return ended, nil
}
