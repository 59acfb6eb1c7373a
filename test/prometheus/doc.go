// Package prometheus runs Debian's Prometheus in tests, and asks it all that
// scripts/dist/grafana.json and scripts/dist/alerts.yaml ask: an expression that brings
// nothing is a panel that stays empty, or an alert that never fires.
package prometheus
