// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Requests that a client may make in a second, on average and in a burst. Watches
// count once; what is left are writes of slices and of a status.
const (
	RequestsPerSecond = 20
	RequestsInBurst   = 40
)

// Config tells how the API server is reached: as a kubeconfig file says or, without
// one, with the service account of the pod at KUBERNETES_SERVICE_HOST and
// KUBERNETES_SERVICE_PORT. agent is what the server's log calls the client.
func Config(kubeconfig, agent string) (*rest.Config, error) {
	cfg, err := load(kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = agent
	cfg.QPS, cfg.Burst = RequestsPerSecond, RequestsInBurst
	return cfg, nil
}

func load(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("finding the API server: %w; run in a pod with a service account, or set kubernetes.kubeconfig", err)
		}
		return cfg, nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubernetes.kubeconfig: %w", err)
	}
	return cfg, nil
}
