{{- define "agent.selector" -}}
app.kubernetes.io/name: nave-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "agent.labels" -}}
{{ include "agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* The pod of the agent: `root` is the chart's own scope, `cleanup` whether it lets go of everything and ends. */}}
{{- define "agent.pod" -}}
serviceAccountName: nave-agent
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
priorityClassName: {{ .root.Values.priorityClassName }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
containers:
- name: agent
  image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args:
  - --hub-secret={{ .root.Release.Namespace }}/nave-hub
  {{- if .root.Values.defaultLoadBalancer }}
  - --default-load-balancer
  {{- end }}
  {{- if .cleanup }}
  - --cleanup
  {{- end }}
  - --node-address-types={{ join "," .root.Values.nodeAddressTypes }}
  - --backends={{ .root.Values.backends }}
  {{- with .root.Values.nodeLabels }}
  - --node-selector={{ join "," . }}
  {{- end }}
  {{- with .root.Values.nameServers }}
  - --name-server={{ join "," . }}
  {{- end }}
  env:
  - {name: NAVE_LOG_FORMAT, value: {{ .root.Values.log.format | quote }}}
  - {name: NAVE_LOG, value: {{ .root.Values.log.filter | quote }}}
  ports:
  - {name: http, containerPort: 8080}
  {{- if not .cleanup }}
  livenessProbe:
    httpGet: {path: /healthz, port: http}
    periodSeconds: 10
    failureThreshold: 3
  readinessProbe:
    httpGet: {path: /readyz, port: http}
    periodSeconds: 5
  {{- end }}
  resources: {{- toYaml .root.Values.resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
