CREATE TABLE `run_events` (
	`run` text NOT NULL,
	`seq` integer NOT NULL,
	`at` integer NOT NULL,
	`type` text NOT NULL,
	`data` text NOT NULL,
	PRIMARY KEY(`run`, `seq`),
	FOREIGN KEY (`run`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE TABLE `runs` (
	`id` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`state` text NOT NULL,
	`parent` text,
	`config` text NOT NULL,
	`seed` integer NOT NULL,
	`data_hash` text,
	`parent_checkpoint` text,
	`output` text,
	`device` text,
	`code_version` text NOT NULL,
	`created_at` integer NOT NULL,
	`started_at` integer,
	`ended_at` integer,
	`error` text,
	`summary` text
);
--> statement-breakpoint
CREATE TABLE `scores` (
	`id` text PRIMARY KEY NOT NULL,
	`axis` text NOT NULL,
	`model` text NOT NULL,
	`model_version` text NOT NULL,
	`calibration` text,
	`logit` real NOT NULL,
	`messages` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `scores_created` ON `scores` (`created_at`);