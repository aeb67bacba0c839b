// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/operator/identities"
	"github.com/weftmesh/weft/operator/lease"
	"github.com/weftmesh/weft/operator/nodes"
	"github.com/weftmesh/weft/operator/policies"
	"github.com/weftmesh/weft/operator/watch"
	"github.com/weftmesh/weft/pkg/config"
	"github.com/weftmesh/weft/pkg/daemon"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/logging"
	"github.com/weftmesh/weft/pkg/metrics"
)

const (
	name = "weft-operator" // of the Lease, and what the API server's log calls it

	// Requests in a second: many pods may be made at once, each with new labels.
	requestsPerSecond = 200
	requestsInBurst   = 400
)

// operator is what run puts together, in the order of its fields.
type operator struct {
	cfg     config.Config
	level   *slog.LevelVar
	log     *slog.Logger
	clock   *lease.Clock
	metrics *metrics.Operator
	manager ctrl.Manager
}

// run works until the context ends, or the lease is lost.
func run(ctx context.Context, cfg config.Config, path string) error {
	if !cfg.Kubernetes.Enabled {
		return fmt.Errorf("%s: kubernetes.enabled: is false; the operator works with an API server only: set it to true", path)
	}
	o := &operator{cfg: cfg, level: &slog.LevelVar{}, clock: lease.NewClock(time.Now)}
	o.level.Set(cfg.LogLevel.Level())
	o.log = logging.New(o.level, os.Stderr)
	bridge := logr.FromSlogHandler(chatter{o.log.Handler()})
	ctrl.SetLogger(bridge)
	klog.SetLogger(bridge)
	registry := metrics.NewRegistry()
	o.metrics = metrics.NewOperator(registry, weft.Version())
	if err := o.newManager(ctx); err != nil {
		return err
	}
	if err := o.addControllers(ctx); err != nil {
		return fmt.Errorf("setting up the controllers: %w", err)
	}
	web := &server{address: cfg.Operator.MetricsAddress, socket: cfg.Operator.HealthSocket, gatherer: registry, synced: o.synced, log: o.log}
	if err := web.listen(ctx); err != nil {
		return err
	}
	if err := errors.Join(o.manager.Add(web), o.manager.Add(unelected(o.showLeader)),
		o.manager.Add(unelected(func(ctx context.Context) error { return o.reload(ctx, path) }))); err != nil {
		return err
	}
	o.log.Info("starting", "version", weft.Version(), "cluster", cfg.ClusterName, "namespace", namespace())
	if err := o.manager.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	o.log.Info("stopped")
	return nil
}

// newManager makes what the controllers share: one client that writes only while
// this operator leads, and one memory of what there is.
func (o *operator) newManager(ctx context.Context) error {
	server, err := k8s.Config(o.cfg.Kubernetes.Kubeconfig, name)
	if err != nil {
		return err
	}
	server.QPS, server.Burst = requestsPerSecond, requestsInBurst
	lock, err := newLock(server)
	if err != nil {
		return err
	}
	scheme, err := k8s.Scheme()
	if err != nil {
		return err
	}
	guarded := rest.CopyConfig(server)
	guarded.Wrap(o.clock.Guard)
	duration, renew, retry, warm := lease.Duration, lease.Renew, lease.Retry, true
	options := ctrl.Options{
		Scheme:                              scheme,
		Logger:                              logr.FromSlogHandler(chatter{o.log.Handler()}),
		Cache:                               cache.Options{ByObject: watch.Objects(namespace()), ReaderFailOnMissingInformer: true},
		Metrics:                             metricsserver.Options{BindAddress: "0"}, // package metrics has ours
		Controller:                          ctrlconfig.Controller{EnableWarmup: &warm},
		LeaderElection:                      true,
		LeaderElectionID:                    name,
		LeaderElectionResourceLockInterface: o.clock.Watch(lock),
		LeaderElectionReleaseOnCancel:       true, // the process ends when Start returns
		LeaseDuration:                       &duration, RenewDeadline: &renew, RetryPeriod: &retry,
	}
	for told := false; ; told = true {
		o.manager, err = ctrl.NewManager(guarded, options)
		if err == nil {
			return nil
		}
		if !meta.IsNoMatchError(err) {
			return fmt.Errorf("connecting to the API server: %w", err)
		}
		// Whoever installs makes the kinds and the operator at once.
		if !told {
			o.log.Info("waiting for the API server to serve our kinds", "missing", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the API server to serve our kinds: %w", err)
		case <-time.After(servedInterval):
		}
	}
}

// servedInterval is how often it is looked whether the API server serves our kinds.
const servedInterval = time.Second / 2

// newLock makes the Lease's lock, with a client of its own: nothing else delays it.
func newLock(server *rest.Config) (resourcelock.Interface, error) {
	cfg := rest.CopyConfig(server)
	cfg.Timeout = lease.Renew / 2
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making the client of the Lease: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("asking for the host's name: %w", err)
	}
	return resourcelock.New(resourcelock.LeasesResourceLock, namespace(), name, client.CoreV1(), client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: cmp.Or(os.Getenv("POD_NAME"), host) + "_" + string(uuid.NewUUID())})
}

func (o *operator) addControllers(ctx context.Context) error {
	filter, err := o.cfg.IdentityLabels.Filter()
	if err != nil {
		return err
	}
	grace := time.Duration(o.cfg.Operator.IdentityGrace)
	events := o.manager.GetEventRecorder(name)
	return errors.Join(
		identities.Add(o.manager, identities.Config{Filter: filter, Cluster: o.cfg.ClusterName, Grace: grace,
			Metrics: o.metrics, Events: events, Log: o.log}),
		nodes.Add(o.manager, nodes.Config{ClusterCIDRs: o.cfg.ClusterCIDRs, Namespace: namespace(), Grace: grace,
			Metrics: o.metrics, Events: events, Log: o.log}),
		policies.Add(ctx, o.manager, o.metrics),
	)
}

// synced tells whether memory has what the API server has.
func (o *operator) synced(ctx context.Context) error {
	if !o.manager.GetCache().WaitForCacheSync(ctx) {
		return errors.New("the API server's objects have not been read yet")
	}
	return nil
}

// leaderInterval is how often it is looked at who leads.
const leaderInterval = time.Second

func (o *operator) showLeader(ctx context.Context) error {
	tick := time.NewTicker(leaderInterval)
	defer tick.Stop()
	for led := false; ; {
		leads := o.clock.Leading()
		o.metrics.SetLeader(leads)
		if leads != led {
			o.log.Info("the Lease has changed hands", "leads", leads)
		}
		led = leads
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// reload takes the level of the log from the configuration when that is to be read again.
func (o *operator) reload(ctx context.Context, path string) error {
	daemon.Reread(ctx, path, func() {
		cfg, err := config.Load(path)
		if err != nil {
			o.log.Error("the configuration has a fault; nothing changes", "error", err)
			return
		}
		o.level.Set(cfg.LogLevel.Level())
		o.log.Info("read the log level again; other settings wait for a restart", "level", cfg.LogLevel)
	})
	return nil
}

// unelected runs in every operator, not just the leader.
type unelected func(context.Context) error

// Start implements manager.Runnable.
func (u unelected) Start(ctx context.Context) error { return u(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (unelected) NeedLeaderElection() bool { return false }

const (
	accountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
	defaultNamespace = "weft-system"
)

// namespace is this pod's, where the agents and the Lease are, too.
func namespace() string {
	if ns := os.Getenv("POD_NAMESPACE"); ns != "" {
		return ns
	}
	if data, err := os.ReadFile(accountNamespace); err == nil {
		return strings.TrimSpace(string(data))
	}
	return defaultNamespace
}
