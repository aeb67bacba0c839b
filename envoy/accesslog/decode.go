// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of fields on the way from a request of the service to a record's text, see
// opentelemetry/proto/collector/logs/v1/logs_service.proto and what that imports.
const (
	requestResourceLogs protowire.Number = 1
	resourceScopeLogs   protowire.Number = 2
	scopeRecords        protowire.Number = 2
	recordTime          protowire.Number = 1 // nanoseconds since 1970
	recordBody          protowire.Number = 5
	valueString         protowire.Number = 1
)

// decode gives the records of a request. The library would refuse them all for one byte
// that is not UTF-8, and clients choose what is in them.
func decode(request []byte, take func(began time.Time, text string)) error {
	return within(request, requestResourceLogs, func(resource []byte) error {
		return within(resource, resourceScopeLogs, func(scope []byte) error {
			return within(scope, scopeRecords, func(record []byte) error {
				return decodeRecord(record, take)
			})
		})
	})
}

func decodeRecord(record []byte, take func(began time.Time, text string)) error {
	var nanos uint64
	var text string
	err := fields(record, func(n protowire.Number, value []byte, number uint64) error {
		switch n {
		case recordTime:
			nanos = number
		case recordBody:
			return within(value, valueString, func(s []byte) error {
				text = string(s)
				return nil
			})
		}
		return nil
	})
	if err == nil {
		take(time.Unix(0, int64(nanos)), text)
	}
	return err
}

// within calls for each field of a message that has the number and is a message or text.
func within(message []byte, number protowire.Number, each func([]byte) error) error {
	return fields(message, func(n protowire.Number, value []byte, _ uint64) error {
		if n != number || value == nil {
			return nil
		}
		return each(value)
	})
}

// fields calls for each field of a message: with a value that has a length, or with a
// number of 64 bits.
func fields(message []byte, each func(n protowire.Number, value []byte, number uint64) error) error {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return fmt.Errorf("reading a field: %w", protowire.ParseError(size))
		}
		message = message[size:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(message)
		case protowire.Fixed64Type:
			number, size = protowire.ConsumeFixed64(message)
		default:
			size = protowire.ConsumeFieldValue(n, kind, message)
		}
		if size < 0 {
			return fmt.Errorf("reading field %d: %w", n, protowire.ParseError(size))
		}
		message = message[size:]
		if err := each(n, value, number); err != nil {
			return err
		}
	}
	return nil
}
