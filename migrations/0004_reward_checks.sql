CREATE TABLE `reward_checks` (
	`id` text PRIMARY KEY NOT NULL,
	`check` text NOT NULL,
	`model` text NOT NULL,
	`version` text NOT NULL,
	`axis` text NOT NULL,
	`data_hash` text NOT NULL,
	`run` text,
	`result` text NOT NULL,
	`objections` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `reward_checks_version` ON `reward_checks` (`version`,`axis`,`check`);--> statement-breakpoint
CREATE INDEX `reward_checks_model` ON `reward_checks` (`model`,`created_at`,`id`);