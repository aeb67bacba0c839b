// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/logging"
)

// allowed is the time for all of it: less than the five minutes that Helm waits for
// a hook, so that it is the error that users see and not the end of the waiting.
const allowed = 4 * time.Minute

// Command is weft-operator uninstall, the hook of the Helm chart.
func Command() *cobra.Command {
	var pod, kubeconfig, namespace string
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Take Weft off every node; pods lose their network (the chart does it before it is deleted)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), allowed, fmt.Errorf("time is up after %s", allowed))
			defer cancel()
			return run(ctx, pod, kubeconfig, namespace)
		},
	}
	c.Flags().StringVar(&pod, "pod", "/etc/weft-cleanup/pod.yaml", "file with the pod that cleans a node")
	c.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server; empty: as the pod's service account")
	c.Flags().StringVar(&namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace that Weft is in")
	return c
}

func run(ctx context.Context, path, kubeconfig, namespace string) error {
	if namespace == "" {
		return errors.New("which namespace is Weft in? Say so with --namespace")
	}
	pod, err := readPod(path)
	if err != nil {
		return err
	}
	server, err := k8s.Config(kubeconfig, "weft-operator/"+weft.Version()+" uninstall")
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(server)
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	return New(Config{
		Client: client, Namespace: namespace, Pod: pod,
		Log: logging.New(new(slog.LevelVar), os.Stderr),
	}).Run(ctx)
}

// readPod reads the pod, strictly.
func readPod(path string) (*corev1.Pod, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the pod that cleans a node: %w", err)
	}
	pod := new(corev1.Pod)
	if err := yaml.UnmarshalStrict(data, pod); err != nil {
		return nil, fmt.Errorf("reading the pod that cleans a node from %s: %w", path, err)
	}
	return pod, nil
}
