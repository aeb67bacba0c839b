// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health is what /healthz and /readyz answer: 200 while it is nil, else 503 with the
// reason.
type Health struct{ Alive, Ready func() error }

// Handler serves /metrics, /healthz and /readyz.
func Handler(gatherer prometheus.Gatherer, health Health, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, // one source that fails must not blind the others
		ErrorLog:      errorLog{log},
	}))
	mux.HandleFunc("GET /healthz", answer(health.Alive))
	mux.HandleFunc("GET /readyz", answer(health.Ready))
	return mux
}

func answer(health func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := health(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// errorLog gives promhttp's errors to slog.
type errorLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l errorLog) Println(v ...any) { l.log.Warn("collecting metrics", "error", fmt.Sprint(v...)) }
